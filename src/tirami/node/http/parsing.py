"""From bytes to checked shapes; everything wrong becomes one clear error that names the field."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from tirami.api import Dialect, Operation
from tirami.api.schemas.base import INCONSISTENT
from tirami.core.errors import (
    BodyTooLarge,
    CancelledByClient,
    InvalidField,
    InvalidRequest,
    MalformedJson,
    RequestError,
    RequestTimeout,
    UnsupportedMediaType,
    UnsupportedParameter,
)

M = TypeVar("M", bound=BaseModel)
_JSON = ("application/json", "application/x-www-form-urlencoded")
"""``curl -d`` names the second; its body is JSON all the same."""
MAX_PROBLEMS = 1024
MAX_MEMBERS = 4096
"""Members of one JSON object."""
BODY_TIMEOUT_S = 30
"""A body that has not arrived by then will not."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most ``limit`` bytes, whether its length was announced or not."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media not in _JSON and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedMediaType(f"the body must be application/json, not {media}")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced[:20]) > limit:
        raise BodyTooLarge(f"a body has at most {limit} bytes", limit=limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"a body has at most {limit} bytes", limit=limit)
                parts.append(part)
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {BODY_TIMEOUT_S} s") from error
    except ClientDisconnect as error:
        raise CancelledByClient("the client went away") from error
    return b"".join(parts)


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no duplicate keys. Raises ``MalformedJson``."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        if b"\\u" in data:  # half of a surrogate pair is no character and could not be passed on
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeError as error:
        raise MalformedJson("the body is not valid UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise MalformedJson(f"the body is not valid JSON: {error}") from error


def checked(model: type[M], value: Any, operation: Operation) -> M:
    """Raises ``InvalidRequest`` or ``UnsupportedParameter`` (400) on OpenAI routes, ``InvalidField`` (422) on ours."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        if error.error_count() > MAX_PROBLEMS:  # a list of half a million would take longer than the answer is worth
            problem = {"loc": (), "type": "too_many", "msg": f"{error.error_count()} things are wrong with it"}
            raise _explained([problem], value, operation) from None
        raise _explained(error.errors(include_url=False, include_input=False), value, operation) from None


def query_of(model: type[M], request: Request, operation: Operation) -> M:
    return checked(model, dict(request.query_params), operation)


def _explained(problems: Sequence[Any], value: Any, operation: Operation) -> RequestError:
    """The first field that is wrong; where it may be one thing or another, the one that was meant got furthest."""
    first = problems[0]["loc"][:1]
    problem = max((each for each in problems if each["loc"][:1] == first), key=lambda each: len(each["loc"]))
    field = ".".join(_place(problem, value)) or None
    message = f"{field or 'body'}: {problem['msg']}"
    if operation.dialect is Dialect.OPENAI:
        if problem["type"] == "extra_forbidden":
            return UnsupportedParameter(f"{field} is not supported", param=field)
        return InvalidRequest(message, param=field)
    return InvalidField(message, param=field)


def _place(problem: Any, value: Any) -> Iterator[str]:
    """The way to the field: pydantic also names the branches of a union, which are nowhere in ``value``."""
    way = problem["loc"]
    for depth, part in enumerate(way):
        found = part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value))
        if found:
            value = value[part]
        if found or depth == 0 or (problem["type"] == "missing" and depth == len(way) - 1):
            yield str(part)
    if problem["type"] == INCONSISTENT:
        yield problem["ctx"]["field"]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        raise ValueError(f"an object has {len(pairs)} members; at most {MAX_MEMBERS} are read")
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object names a key twice")
    return result


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
