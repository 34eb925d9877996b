"""The product's version, from its installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("tirami")
except PackageNotFoundError:
    VERSION = "0+source"
