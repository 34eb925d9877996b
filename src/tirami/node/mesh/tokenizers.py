"""The tokenizers of what this node sells: a provider counts an answer as its payer does, and waits for what is due."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tirami.core.errors import ModelLoadError, TiramiError
from tirami.core.keys import Digest
from tirami.infer import Count, Engine, MetadataBlock, Tokenizer
from tirami.node.mesh.blocks import Blocks

_log = structlog.get_logger()
LOOK_S = 0.5
AGAIN_S = 30.0
"""Seconds until what could not be read is tried again."""


class TokenizerCheck:
    """One answer by the model's own tokenizer. A :class:`~tirami.net.session.Canon`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._count = Count(tokenizer)

    def decode(self, ids: tuple[int, ...]) -> bytes:
        return self._tokenizer.decode(ids)

    def feed(self, data: bytes) -> int:
        return self._count.feed(data)


class Tokenizers:
    """Tokenizers by digest, of engines that are for sale; each takes 35 to 60 MB and a second to make.

    Args:
        blocks: where they come from. What has no block there, or one that is not understood, is not sold: no payer
            could check it either; it is tried again, for a disk may have been at fault, or a file on its way.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._ready: dict[Digest, Tokenizer] = {}
        self._missing: dict[Digest, tuple[float, str]] = {}
        """When it is tried again, by the loop's time, and why there is none."""

    def canon(self, digest: Digest) -> TokenizerCheck | None:
        """To count one answer with; ``None`` while there is no such tokenizer."""
        tokenizer = self._ready.get(digest)
        return None if tokenizer is None else TokenizerCheck(tokenizer)

    async def run(self, sellable: Callable[[], Sequence[Engine]]) -> None:
        """Until cancelled: have those of what is for sale, and no others."""
        while True:
            wanted = {engine.card.tokenizer_digest: engine.card.name for engine in sellable()}
            self._ready = {digest: ready for digest, ready in self._ready.items() if digest in wanted}
            self._missing = {digest: missed for digest, missed in self._missing.items() if digest in wanted}
            for digest in wanted.keys() - self._ready.keys():
                again_s, why = self._missing.get(digest, (0.0, ""))
                if asyncio.get_running_loop().time() >= again_s:
                    await self._try(digest, wanted[digest], why)
            await asyncio.sleep(LOOK_S)

    async def _try(self, digest: Digest, model: str, known: str) -> None:
        """``known``: why it failed before, which the owner was told then."""
        try:
            self._ready[digest] = await asyncio.to_thread(self._made, digest)
            self._missing.pop(digest, None)
        except (TiramiError, OSError) as error:
            reason = str(error)
            self._missing[digest] = asyncio.get_running_loop().time() + AGAIN_S, reason
            if reason != known:
                _log.warning("model_not_sold", model=model, reason=f"no payer can check its answers: {reason}")

    def _made(self, digest: Digest) -> Tokenizer:
        """Blocking. Raises ``ModelLoadError``, ``TokenizerError``, ``OSError``."""
        if (data := self._blocks.get(digest)) is None:
            raise ModelLoadError("the file of this model is not among the installed ones")
        return Tokenizer.from_block(MetadataBlock.of_bytes(data, digest))
