"""``tirami demo``: one paid request, followed from the question to the proof, every step asserted."""

from tirami.cli.demo.command import demo

__all__ = ["demo"]
