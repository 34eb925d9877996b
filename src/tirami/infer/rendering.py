"""Processes that render chat templates: one prompt each gets a process of its own, forked from one that waits.

Starting Python takes longer than anything else about a prompt, so a process that has read its template waits for the
next prompt of it. Nothing of a prompt is left in it: each is rendered in a fork, which ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from tirami.core.errors import InvalidRequest, TokenizerError
from tirami.infer.engine import Message

WORKER: Final = Path(__file__).with_name("template_worker.py")
DEADLINE_S: Final = 10.0
"""For one prompt, from the start of its process to the last rendering; 0.3 s is usual, most of it the start."""
CPU_S: Final = 4
MEMORY_BYTES: Final = 512 << 20
"""Address space, of which Python itself takes a tenth."""
MAX_CHARACTERS: Final = 4 << 20
"""Of a rendered prompt; more than any context takes."""
WAITING: Final = 2
"""Processes that wait, of the templates used last; one takes some 10 MB of its own."""
MOST_PROMPTS: Final = 1_000
"""Of one process; each costs it a millisecond or two of the minute that it has."""
_LINE_BYTES: Final = 7 * MAX_CHARACTERS
"""A line of JSON with so many characters, each escaped."""


class Source(msgspec.Struct, frozen=True):
    """A template and the texts of the tokens that begin and end a text."""

    template: str
    bos: str
    eos: str


class _Told(msgspec.Struct):
    text: str | None = None
    refused: str | None = None
    error: str | None = None
    ready: bool = False
    ended: bool = False


class RenderingProcess:
    """A process with one template; between :meth:`begin` and :meth:`end` it renders one prompt."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._until = 0.0
        self._prompts = 0

    @classmethod
    async def start(cls) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(WORKER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                start_new_session=True,
                limit=_LINE_BYTES,
            )
        )

    @property
    def fit(self) -> bool:
        """For another prompt."""
        return self._process.returncode is None and self._prompts < MOST_PROMPTS

    async def read(self, source: Source, until: float) -> None:
        """Have it read its template. Raises ``TokenizerError`` when that takes too much; later for one that is none."""
        self._until = until
        bounds = {"cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES, "characters": MAX_CHARACTERS}
        if not (await self._asked(msgspec.json.encode({**msgspec.to_builtins(source), **bounds}) + b"\n")).ready:
            raise TokenizerError("the process for chat templates does not start")

    async def begin(self, until: float) -> None:
        self._until = until
        self._prompts += 1
        await self._send(b"\n")

    async def end(self) -> None:
        """The prompt is rendered, and what rendered it is gone. Raises ``TokenizerError`` when that takes too long."""
        if not (await self._asked(b"\n")).ended:
            raise TokenizerError("the model's chat template does not end")

    def kill(self) -> None:
        """End it, whatever it does; idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """:meth:`kill`, and wait until it is gone."""
        self.kill()
        await asyncio.shield(self._process.wait())

    async def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ()) -> str:
        """Of an answer that is already begun, the last message, the template writes nothing: it goes on as it is.

        Raises:
            InvalidRequest: the template does not take the messages.
            TokenizerError: it is no template, or it wants more than the bounds.
        """
        begun = [message for message in messages[-2:] if message["role"] == "assistant"]
        if len(begun) == 2:
            raise InvalidRequest("two answers at the end cannot both be gone on with", param="messages")
        if messages[-1]["role"] == "assistant":
            return await self._rendered(messages[:-1], tools) + str(messages[-1].get("content") or "")
        return await self._rendered(messages, tools)

    async def _rendered(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]]) -> str:
        try:
            job = msgspec.json.encode({"messages": messages, "tools": tools})
        except (TypeError, ValueError) as error:
            raise InvalidRequest("the request holds something that JSON cannot carry", param="messages") from error
        told = await self._asked(job + b"\n")
        if told.text is not None:
            return told.text
        if told.refused is not None:
            raise InvalidRequest(f"the model's template refuses the messages: {told.refused}", param="messages")
        if told.error is None:
            raise _too_much()
        raise TokenizerError(f"the model's chat template cannot be used: {told.error}")

    async def _asked(self, line: bytes) -> _Told:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout_at(self._until):
                await self._send(line)
                return msgspec.json.decode(await self._process.stdout.readline(), type=_Told)
        except (TimeoutError, ValueError):  # too late, too long, or dead and so no JSON
            raise _too_much() from None

    async def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # its end is seen when reading
            self._process.stdin.write(line)
            await self._process.stdin.drain()


class RenderingProcesses:
    """Those that wait, by template; :meth:`aclose` ends them and keeps none any more."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._most = waiting
        self._waiting: OrderedDict[Source, RenderingProcess] = OrderedDict()

    @asynccontextmanager
    async def lent(self, source: Source) -> AsyncIterator[RenderingProcess]:
        """A process that renders this template until the context is left; for the renderings of one prompt.

        All of them together get 10 s, 4 s of computing, 512 MiB, and 4 Mi characters each; the process can open
        neither file nor socket. Raises ``TokenizerError``.
        """
        until = asyncio.get_running_loop().time() + DEADLINE_S
        process, ended = self._waiting.pop(source, None), False
        if process is not None and not process.fit:  # it died while it waited
            process = None
        began = process is None
        if process is None:
            process = await RenderingProcess.start()
        try:
            if began:
                await process.read(source, until)
            await process.begin(until)
            try:
                yield process
            except InvalidRequest:  # the messages' fault: the process is fine
                await process.end()
                ended = True
                raise
            await process.end()
            ended = True
        finally:
            if ended and process.fit:
                await self._keep(source, process)
            else:
                await process.close()

    async def aclose(self) -> None:
        self._most = 0
        await self._end_surplus()

    async def _keep(self, source: Source, process: RenderingProcess) -> None:
        other = self._waiting.pop(source, None)
        self._waiting[source] = process
        await self._end_surplus(*([other] if other is not None else []))

    async def _end_surplus(self, *ended: RenderingProcess) -> None:
        """Those, and the longest waiting while too many do: all are killed before anything is waited for."""
        surplus = len(self._waiting) - self._most
        ended += tuple(self._waiting.popitem(last=False)[1] for _ in range(surplus))
        for process in ended:
            process.kill()
        for process in ended:
            await process.close()


def _too_much() -> TokenizerError:
    return TokenizerError("the model's chat template takes too much time or memory")
