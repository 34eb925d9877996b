"""The default engine: llama.cpp in a supervised child process.

Native code that crashes or runs out of memory takes its own process down, not the wallet. The supervisor is a
task of the engine: it starts a new child at once, and later and later while children keep dying.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tirami.core.errors import ContextLengthExceeded, EngineError, EngineFailed, InvalidRequest
from tirami.core.keys import Digest
from tirami.core.units import TokenCount
from tirami.infer.answer import ChildGeneration
from tirami.infer.batch import batch_tokens
from tirami.infer.card import read_card
from tirami.infer.chat import check, rendered
from tirami.infer.digests import DigestBook
from tirami.infer.embedding import EmbeddingGeneration, declared_pooling, whole, windowed
from tirami.infer.engine import (
    CountedBy,
    EngineStatus,
    FinishReason,
    Generation,
    Message,
    ModelCard,
    Prompt,
    Sampling,
)
from tirami.infer.gguf import Header
from tirami.infer.ids import IdRecovery
from tirami.infer.llama import LlamaClient
from tirami.infer.process import Introduction, WorkerProcess, WorkerSettings
from tirami.infer.shaping import ANY_OBJECT
from tirami.infer.tools import Tools
from tirami.infer.vocabulary import Fragments
from tirami.infer.wording import Wording

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0
STABLE_S: Final = 60.0
"""A child that lived this long wipes out the failures before it."""
SPARE_CONNECTIONS: Final = 8
"""Beside one stream a slot: rendering, tokenising, closed connections that the child has not noticed yet."""
RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class _Link:
    """A live child and the client that talks to it."""

    worker: WorkerProcess
    client: LlamaClient
    recovery: IdRecovery

    async def close(self) -> None:
        await self.client.close()
        await self.worker.stop()


class ChildEngine:
    """An :class:`~tirami.infer.engine.Engine` that owns a llama.cpp process for one model file.

    Args:
        path: the GGUF file.
        name: the id clients use.
        slots: answers computed at once.
        context: tokens of one slot, prompt and answer together; lowered to what the model was trained for.
        threads: compute threads, 0 for llama.cpp's choice.
        digest: what the file must hash to; ``None`` takes it as it is.
        models_dir: where digests of files are remembered; ``None`` hashes the file at every start.
        cache_prompt: let a slot reuse the common beginning of its previous prompt. Saves the reading of a
        growing
            chat; off, no payer can tell from timing what another one asked.
        start_timeout_s: longest load.
        stall_timeout_s: longest silence after a request; then the child is replaced.
        memory_limit_bytes: address space limit of the child, 0 for none.
        binary: a ``llama-server`` to run instead of the one in the wheel.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        slots: int = 8,
        context: int = 2048,
        threads: int = 0,
        digest: Digest | None = None,
        models_dir: Path | None = None,
        cache_prompt: bool = True,
        start_timeout_s: float = 120.0,
        stall_timeout_s: float = 300.0,
        memory_limit_bytes: int = 0,
        binary: Path | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._slots = slots
        self._context = context
        self._threads = threads
        self._digest = digest
        self._digests = DigestBook(models_dir / "digests") if models_dir else None
        self._cache_prompt = cache_prompt
        self._start_timeout_s = start_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._memory_limit_bytes = memory_limit_bytes
        self._binary = binary
        self._card: ModelCard | None = None
        self._fragments = Fragments({})
        self._wording = Wording()
        self._pooling: str | None = None
        """How the model says its vectors are made; empty where it has none."""
        self._link: _Link | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._busy = 0
        self._restarts = 0
        self._peak_memory = 0
        self._detail = "not started"
        self._introduction: Introduction | None = None

    @property
    def card(self) -> ModelCard:
        """Known once started. Raises ``EngineFailed`` before."""
        if self._card is None:
            raise EngineFailed("the engine was not started")
        return self._card

    @property
    def slots(self) -> int:
        return self._slots

    async def start(self) -> None:
        """Load the model. Raises ``ModelLoadError``, ``ModelDigestMismatch``."""
        if self._supervisor is not None:
            return
        try:
            await self._spawn()
        except EngineError as error:
            self._detail = error.message
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervisor of {self._name}")

    async def close(self) -> None:
        """End supervisor, child and connections; running answers raise ``EngineFailed``. Idempotent."""
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            supervisor.cancel()
            await asyncio.wait([supervisor])
            await self._unlink()
            self._detail = "closed"
            if not supervisor.cancelled():
                supervisor.result()

    def status(self) -> EngineStatus:
        return EngineStatus(
            ready=self._link is not None,
            slots=self._slots,
            busy=self._busy,
            restarts=self._restarts,
            detail=self._detail,
            device=self._introduction.device if self._introduction else "",
            layers_offloaded=self._layers_offloaded(),
        )

    async def prepare(
        self, messages: Sequence[Message], tools: Tools | None = None, schema: str | None = None
    ) -> Prompt:
        """Render the chat template and tokenise, exactly as an answer will read it.

        Raises:
            InvalidRequest: no messages, a message without role, one that the model's template refuses, or a
                ``schema`` the child cannot hold an answer to.
            EngineFailed: the child is gone.
        """
        check(messages)
        client = self._live().client
        await _check_schema(client, schema, "tools" if tools is not None else "response_format")
        text = await rendered(client.apply_template, messages, tools)
        tokens = await client.tokenize(text, whole_prompt=True)
        return Prompt(tokens, TokenCount(len(tokens)), True, text, messages, tools)

    async def prepare_text(self, text: str | Sequence[int], schema: str | None = None) -> Prompt:
        """A prompt as it is. Raises ``InvalidRequest``, also for a ``schema`` as :meth:`prepare`, ``EngineFailed``."""
        client = self._live().client
        await _check_schema(client, schema, "schema")
        tokens = await client.tokenize(text, whole_prompt=True) if isinstance(text, str) else tuple(text)
        if not tokens:
            raise InvalidRequest("the prompt is empty", param="prompt")
        return Prompt(tokens, TokenCount(len(tokens)), True, text if isinstance(text, str) else "", ())

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Generation]:
        """Answer ``prompt``; sent when first iterated, cancelled when the context is left.

        Raises:
            ContextLengthExceeded: the prompt leaves no room for a token.
            InvalidRequest: fewer than one token asked for, or no prompt.
            EngineFailed: the child is not up.
        """
        room = self.card.context_length - prompt.count
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {prompt.count} tokens and leaves no room; {self.card.context_limit}",
                param="messages",
                prompt_tokens=prompt.count,
                context_length=self.card.context_length,
            )
        if sampling.max_tokens < 1 or not prompt.tokens:
            raise InvalidRequest("an answer needs a prompt and room for one token", param="max_tokens")
        link = self._live()
        fitting = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        stream = link.client.complete(prompt.tokens, fitting, cache_prompt=self._cache_prompt)
        generation = ChildGeneration(
            self.card, prompt, sampling, stream, link.recovery, self._wording, self.memory_bytes
        )
        self._busy += 1
        try:
            yield generation
        finally:
            self._busy -= 1
            await generation.close()

    @asynccontextmanager
    async def embed(self, inputs: Sequence[Prompt], dimensions: int | None = None) -> AsyncIterator[Generation]:
        """Vectors of ``inputs``, asked for when iterated.

        Raises ``ContextLengthExceeded``, ``EngineFailed``, ``InvalidRequest`` for other ``dimensions`` than its own,
        and of a model that makes no vectors of texts.
        """
        if self._pooling == "":
            raise InvalidRequest("this model makes no vectors of texts: its file names another use", param="model")
        if dimensions not in (None, self.card.hidden):
            raise InvalidRequest(f"vectors of this model have {self.card.hidden} dimensions", param="dimensions")
        for prompt in inputs:
            if prompt.count > self.card.context_length:
                raise ContextLengthExceeded(
                    f"an input has {prompt.count} tokens; {self.card.context_limit}",
                    param="input",
                )
        read = whole if self._pooling else windowed
        vectors = read([prompt.tokens for prompt in inputs], self._live().client.embed)
        generation = EmbeddingGeneration(self.card, vectors, CountedBy.ENGINE, time.perf_counter, self.memory_bytes)
        self._busy += 1
        try:
            yield generation
        finally:
            self._busy -= 1
            generation.end(FinishReason.CANCELLED)

    async def _spawn(self) -> None:
        """Check the file and start a child for it; the file must still be the one on the card."""
        self._detail = "loading"
        card, self._fragments, self._wording, pooling = await asyncio.to_thread(self._inspect)
        self._card, self._pooling = card, pooling
        connections = 2 * self._slots + SPARE_CONNECTIONS
        settings = WorkerSettings(
            model=str(self._path),
            slots=self._slots,
            context=card.context_length,
            batch=batch_tokens(pooling, slots=self._slots, context=card.context_length),
            threads=self._threads,
            connections=connections + SPARE_CONNECTIONS,
            memory_limit_bytes=self._memory_limit_bytes,
            binary=str(self._binary or ""),
            pooling=pooling or "",
        )
        worker = await WorkerProcess.spawn(settings, self._start_timeout_s)
        client = LlamaClient(worker.port, worker.api_key, connections, self._stall_timeout_s, worker.kill)
        self._introduction = worker.introduction
        self._link = _Link(worker, client, IdRecovery(client, self._fragments))
        self._detail = "ready"

    def _inspect(self) -> tuple[ModelCard, Fragments, Wording, str | None]:
        expected = self._card.digest if self._card else self._digest
        card = read_card(self._path, self._name, self._context, expected=expected, digests=self._digests)
        header = Header.read(self._path)
        fragments, wording = self._fragments or Fragments.read(header), self._wording or Wording.read(header)
        return card, fragments, wording, declared_pooling(header)

    async def _supervise(self) -> None:
        """Replace every child that ends."""
        failures = 0
        while True:
            if self._link is not None:
                since = time.monotonic()
                self._detail = await self._link.worker.wait()
                await self._unlink()
                self._restarts += 1
                failures = 1 if time.monotonic() - since > STABLE_S else failures + 1
            await asyncio.sleep(backoff_s(failures))
            try:
                await self._spawn()
            except (EngineError, OSError) as error:
                failures += 1
                self._detail = str(error)

    async def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _live(self) -> _Link:
        if self._link is None:
            raise EngineFailed(f"the engine is not up: {self._detail}", retry_after=RETRY_AFTER_S)
        return self._link

    def _layers_offloaded(self) -> int | None:
        told = self._introduction.offloaded if self._introduction else None
        return self.card.layers if told == -1 else told

    def memory_bytes(self) -> int:
        """Peak resident bytes of the child, the last known while there is none."""
        if self._link is not None:
            self._peak_memory = self._link.worker.peak_memory() or self._peak_memory
        return self._peak_memory


async def _check_schema(client: LlamaClient, schema: str | None, param: str) -> None:
    """Raises ``InvalidRequest`` for one the child would silently go on without."""
    if schema is None or schema == ANY_OBJECT:
        return
    try:
        await client.check_schema(schema)
    except InvalidRequest as error:
        raise InvalidRequest(f"answers cannot be held to this schema: {error.message}", param=param) from error


def backoff_s(failures: int) -> float:
    """Pause before a new child: none after the first failure, then doubling up to half a minute."""
    if failures < 2:
        return 0.0
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 2, 16))
