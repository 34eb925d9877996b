"""The tokenizers of what this node sells: a provider counts an answer as its payer does, and waits for what is due."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tirami.core.errors import TiramiError
from tirami.core.keys import Digest
from tirami.infer import Count, Engine, MetadataBlock, Tokenizer
from tirami.node.mesh.blocks import Blocks

_log = structlog.get_logger()
LOOK_S = 0.5


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
            could check it either.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._ready: dict[Digest, Tokenizer | None] = {}

    def canon(self, digest: Digest) -> TokenizerCheck | None:
        """To count one answer with; ``None`` while there is no such tokenizer."""
        tokenizer = self._ready.get(digest)
        return None if tokenizer is None else TokenizerCheck(tokenizer)

    async def run(self, sellable: Callable[[], Sequence[Engine]]) -> None:
        """Until cancelled: have those of what is for sale, and no others."""
        while True:
            wanted = {engine.card.tokenizer_digest: engine.card.name for engine in sellable()}
            self._ready = {digest: ready for digest, ready in self._ready.items() if digest in wanted}
            for digest in wanted.keys() - self._ready.keys():
                self._ready[digest] = await asyncio.to_thread(self._made, digest, wanted[digest])
            await asyncio.sleep(LOOK_S)

    def _made(self, digest: Digest, model: str) -> Tokenizer | None:
        try:
            data = self._blocks.get(digest)
            if data is not None:
                return Tokenizer.from_block(MetadataBlock.of_bytes(data, digest))
            reason = "the file of this model is not among the installed ones"
        except (TiramiError, OSError) as error:
            reason = str(error)
        _log.warning("model_not_sold", model=model, reason=f"no payer can check its answers: {reason}")
        return None
