"""A client for the API of a Tirami node: blocking and asynchronous, one method an operation."""

from tirami.sdk.client import TIMEOUT_S, AsyncTirami, Tirami
from tirami.sdk.errors import error_from

__all__ = ["TIMEOUT_S", "AsyncTirami", "Tirami", "error_from"]
