"""The chat template of a metadata block, rendered as a payer renders it: in a process of its own, within bounds."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from tirami.core.errors import InvalidRequest, TokenizerError
from tirami.infer.chat import Renderer
from tirami.infer.engine import Message

WORKER: Final = Path(__file__).with_name("template_worker.py")
DEADLINE_S: Final = 10.0
"""From the start of the process to the last rendering; 0.3 s is usual, most of it the start."""
CPU_S: Final = 4
MEMORY_BYTES: Final = 512 << 20
"""Address space, of which Python itself takes a tenth."""
MAX_CHARACTERS: Final = 4 << 20
"""Of a rendered prompt; more than any context takes."""
_LINE_BYTES: Final = 7 * MAX_CHARACTERS
"""A line of JSON with so many characters, each escaped."""
CHATML: Final = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\n' -}}"
)
"""What llama.cpp takes for a model without a template."""


class _Told(msgspec.Struct):
    text: str | None = None
    refused: str | None = None
    error: str | None = None


class ChatTemplate:
    """A template and what it may mention.

    Args:
        source: jinja; empty for :data:`CHATML`.
        bos, eos: texts of the tokens that begin and end a text.
    """

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        self._source = source or CHATML
        self._bos = bos
        self._eos = eos

    @asynccontextmanager
    async def renderer(self) -> AsyncIterator[Renderer]:
        """A process that renders this template until the context is left; for the renderings of one prompt.

        All of them together get 10 s, 4 s of computing, 512 MiB, and 4 Mi characters each; the process can open
        neither file nor socket. The prompt for an answer (``add_generation_prompt``) is always added.

        Raises:
            InvalidRequest: the template does not take the messages.
            TokenizerError: it is no template, or it wants more than that.
        """
        process = await asyncio.create_subprocess_exec(
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
        task = _Rendering(process, asyncio.get_running_loop().time() + DEADLINE_S)
        try:
            await task.send(
                template=self._source,
                bos=self._bos,
                eos=self._eos,
                cpu_s=CPU_S,
                memory_bytes=MEMORY_BYTES,
                characters=MAX_CHARACTERS,
            )
            yield task.render
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())


class _Rendering:
    def __init__(self, process: asyncio.subprocess.Process, until: float) -> None:
        self._process = process
        self._until = until

    async def send(self, **job: object) -> None:
        assert self._process.stdin is not None
        try:
            line = msgspec.json.encode(job)
        except (TypeError, ValueError) as error:
            raise InvalidRequest("the request holds something that JSON cannot carry", param="messages") from error
        with contextlib.suppress(ConnectionError):  # its end is seen when reading
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()

    async def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ()) -> str:
        """Of an answer that is already begun, the last message, the template writes nothing: it goes on as it is."""
        begun = [message for message in messages[-2:] if message["role"] == "assistant"]
        if len(begun) == 2:
            raise InvalidRequest("two answers at the end cannot both be gone on with", param="messages")
        if messages[-1]["role"] == "assistant":
            return await self._rendered(messages[:-1], tools) + str(messages[-1].get("content") or "")
        return await self._rendered(messages, tools)

    async def _rendered(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]]) -> str:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout_at(self._until):
                await self.send(messages=messages, tools=tools)
                line = await self._process.stdout.readline()
            told = msgspec.json.decode(line, type=_Told)
        except (TimeoutError, ValueError):  # too late, too long, or dead and so no JSON
            raise TokenizerError("the model's chat template takes too much time or memory") from None
        if told.text is not None:
            return told.text
        if told.refused is not None:
            raise InvalidRequest(f"the model's template refuses the messages: {told.refused}", param="messages")
        raise TokenizerError(f"the model's chat template cannot be used: {told.error}")
