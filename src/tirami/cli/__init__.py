"""The command line. Speaks to a node through its API; only :mod:`tirami.cli.host` builds one."""

from tirami.cli.app import app, main

__all__ = ["app", "main"]
