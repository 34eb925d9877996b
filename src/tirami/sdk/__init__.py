"""A client for the API of a Tirami node: blocking and asynchronous, one method an operation."""

from tirami.sdk.client import TIMEOUT_S, AsyncTirami, Tirami
from tirami.sdk.errors import UnreadableReply, error_from

__all__ = ["TIMEOUT_S", "AsyncTirami", "Tirami", "UnreadableReply", "error_from"]
