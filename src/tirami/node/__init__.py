"""The composition root: a node from a configuration."""

from tirami.node.logs import configure_logs
from tirami.node.node import Node
from tirami.node.version import VERSION

__all__ = ["VERSION", "Node", "configure_logs"]
