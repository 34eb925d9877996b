"""From an error envelope back to the class it came from."""

import json
from collections.abc import Iterator

from tirami.core.errors import TiramiError


class UnreadableReply(TiramiError):
    """What answered with success is no node of this kind: a proxy's page, or another program on the port."""

    code = "unreadable_reply"


_FIXED = frozenset({"message", "type", "code", "param", "request_id", "status"})


def _tree(root: type[TiramiError]) -> Iterator[type[TiramiError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def error_from(status: int, body: bytes, retry_after: str | None = None) -> TiramiError:
    """The error a reply stands for: same class, same data; ``TiramiError`` for what no class knows.

    A node that speaks the original's dialect says its status where others say a code: then the first class of it.
    """
    try:
        content = json.loads(body)["error"]
        code, message = str(content["code"]), str(content["message"])
    except (ValueError, KeyError, TypeError):
        return TiramiError(f"the server answered {status} without an error envelope", status=status)
    known = [cls for cls in _tree(TiramiError) if cls.code == code]
    known = [cls for cls in known if not any(other.__base__ is cls for other in known)]  # a group, and what is raised
    candidates = [cls for cls in _tree(TiramiError) if "code" in vars(cls)] if code == str(status) else known
    of_status = [cls for cls in candidates if cls.status == status]
    cls = next(iter(of_status or known), TiramiError)
    data = {key: value for key, value in content.items() if key not in _FIXED}
    seconds = int(retry_after) if retry_after and retry_after.isdigit() else None
    return cls(message, param=content.get("param"), retry_after=seconds, **data)
