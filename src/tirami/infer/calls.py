"""Reads tool calls out of an answer while it streams."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from tirami.infer.tools import CLOSE, OPEN

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_PLAIN = re.compile(r"[^\"{}\\]+")


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text beside any call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of call number ``index``; the first one has ``id`` and ``name``."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


Delta = TextDelta | CallDelta


class _Where(Enum):
    TEXT = auto()
    HEAD = auto()
    ARGUMENTS = auto()
    TAIL = auto()
    """Behind the arguments, before the brace that ends the call."""
    MEMBERS = auto()
    """In what else the call says, which is dropped up to its mark."""
    AFTER = auto()
    """Behind the call, where its closing mark may be missing."""


class CallReader:
    """Feed it text as it comes; what looks like a call but is none comes back as text.

    Args:
        new_id: makes the id of a call.
        demanded: whether the answer is held to be a call; then the marks may be missing.
    """

    def __init__(self, new_id: Callable[[], str], *, demanded: bool) -> None:
        self._new_id = new_id
        self._bare = demanded
        self._where = _Where.HEAD if demanded else _Where.TEXT
        self._rest = ""
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self.calls = 0
        """Calls begun so far."""

    @property
    def held(self) -> int:
        """Characters at the end of what was fed that have not come out yet, and may one way or another."""
        if self._where is _Where.HEAD:
            return len(self._rest) + (0 if self._bare else len(OPEN))
        return 0 if self._where is _Where.MEMBERS else len(self._rest)

    def feed(self, text: str) -> list[Delta]:
        self._rest += text
        return list(self._read())

    def finish(self) -> list[Delta]:
        """The answer has ended: what was held back."""
        rest, self._rest = self._rest, ""
        if self._where is _Where.HEAD:
            return list(self._whole(rest, closed=False)) if rest or not self._bare else []
        if self._where is not _Where.TEXT:  # the end of a call that was cut off
            return []
        return [TextDelta(rest)] if rest and not (self.calls and rest.isspace()) else []

    def _read(self) -> Iterator[Delta]:
        steps = {
            _Where.TEXT: self._text,
            _Where.HEAD: self._head,
            _Where.ARGUMENTS: self._arguments,
            _Where.TAIL: self._tail,
            _Where.MEMBERS: self._members,
            _Where.AFTER: self._after,
        }
        while True:
            before = self._where
            yield from steps[before]()
            if self._where is before:
                return

    def _text(self) -> Iterator[Delta]:
        before, mark, after = self._rest.partition(OPEN)
        if mark:
            self._where, self._rest = _Where.HEAD, after
            if before.strip():
                yield TextDelta(before.rstrip() if not self.calls else before.strip())
            return
        held = _held(before)
        shown = before[: len(before) - held]
        if shown and not (self.calls and shown.isspace()):
            self._rest = before[len(shown) :]
            yield TextDelta(shown)

    def _head(self) -> Iterator[Delta]:
        if self._bare and not self._still_bare():
            return
        head = _HEAD.match(self._rest)
        name = None if head is None else _name(head[1])
        if head is not None and name is not None:
            self._where, self._rest = _Where.ARGUMENTS, self._rest[head.end() :]
            self._depth = 0
            yield self._begun(name)
            return
        inside, mark, after = self._rest.partition(CLOSE)
        if mark:
            self._where, self._rest = _Where.TEXT, after
            yield from self._whole(inside, closed=True)

    def _still_bare(self) -> bool:
        """Whether a demanded call begins without its mark; words before it are text, and then it needs one."""
        begun = self._rest.lstrip()
        if begun.startswith(OPEN):
            self._bare, self._rest = False, begun[len(OPEN) :]
        elif begun and begun[0] != "{" and not OPEN.startswith(begun):
            self._bare, self._where = False, _Where.TEXT
            return False
        return True

    def _arguments(self) -> Iterator[Delta]:
        """Pass the object of arguments on as it was written, up to the brace that closes it."""
        position = 0
        while position < len(self._rest):
            plain = _PLAIN.match(self._rest, position)
            if plain is not None and not self._escaped:
                position = plain.end()
                continue
            self._step(self._rest[position])
            position += 1
            if self._depth == 0:
                self._where = _Where.TAIL
                break
        piece, self._rest = self._rest[:position], self._rest[position:]
        if piece:
            yield CallDelta(self.calls - 1, piece)

    def _step(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = self._quoted
        elif character == '"':
            self._quoted = not self._quoted
        elif not self._quoted:
            self._depth += {"{": 1, "}": -1}.get(character, 0)

    def _tail(self) -> Iterator[Delta]:
        """One brace ends the call; where there is none, the call ends all the same."""
        rest = self._rest.lstrip()
        if rest:
            self._where = _Where.MEMBERS if rest[0] == "," else _Where.AFTER
            self._rest = rest[1:] if rest[0] == "}" else self._rest
        yield from ()

    def _members(self) -> Iterator[Delta]:
        _, mark, after = self._rest.partition(CLOSE)
        if mark:
            self._where, self._rest = _Where.TEXT, after
        else:
            self._rest = self._rest[1 - len(CLOSE) :]  # the mark may have begun
        yield from ()

    def _after(self) -> Iterator[Delta]:
        rest = self._rest.lstrip()
        if rest.startswith(CLOSE):
            self._where, self._rest = _Where.TEXT, rest[len(CLOSE) :]
        elif not CLOSE.startswith(rest):
            self._where, self._rest = _Where.TEXT, rest
        self._bare = False
        yield from ()

    def _whole(self, inside: str, *, closed: bool) -> Iterator[Delta]:
        """A call written in another order, or none at all."""
        call = _call(inside)
        if call is None:
            yield TextDelta(inside if self._bare else f"{OPEN}{inside}{CLOSE if closed else ''}")
            return
        name, arguments = call
        yield self._begun(name)
        yield CallDelta(self.calls - 1, arguments)

    def _begun(self, name: str) -> CallDelta:
        self.calls += 1
        return CallDelta(self.calls - 1, "", self._new_id(), name)


def _name(written: str) -> str | None:
    """What a string of JSON says; ``None`` where it is none, or holds half of a surrogate pair."""
    try:
        name = json.loads(written)
        name.encode()
    except ValueError:
        return None
    return str(name)


def _call(inside: str) -> tuple[str, str] | None:
    """Name and arguments of a call that is a JSON object, members in any order."""
    try:
        call = json.loads(inside)
        name, arguments = call["name"], call.get("arguments", {})
        written = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        f"{name}{written}".encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return (name, written) if isinstance(name, str) else None


def _held(text: str) -> int:
    """How much of the end of ``text`` may belong to a mark: white space before it, and its beginning."""
    for length in range(min(len(OPEN) - 1, len(text)), 0, -1):
        if text.endswith(OPEN[:length]):
            body = text[:-length]
            return length + len(body) - len(body.rstrip())
    return len(text) - len(text.rstrip())
