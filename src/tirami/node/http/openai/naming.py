"""The node speaks of a chat's fields; an error on another route names the field that route has instead."""

from collections.abc import Iterator
from contextlib import contextmanager

from tirami.core.errors import RequestError


@contextmanager
def named(**fields: str) -> Iterator[None]:
    """Errors that leave it are about the route's own fields: ``named(messages="prompt")``."""
    try:
        yield
    except RequestError as error:
        error.param = fields.get(error.param or "", error.param)
        raise
