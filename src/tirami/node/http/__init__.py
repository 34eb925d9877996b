"""The API over HTTP."""

from tirami.node.http.app import build_app
from tirami.node.http.server import HttpServer
from tirami.node.http.tls import Tls

__all__ = ["HttpServer", "Tls", "build_app"]
