"""The API over HTTP."""

from tirami.node.http.app import build_app
from tirami.node.http.server import HttpServer

__all__ = ["HttpServer", "build_app"]
