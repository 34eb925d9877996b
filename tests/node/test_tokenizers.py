"""What a seller counts with: there before anything is offered, gone when it is not for sale; without one, no sale."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog.testing

from tests.infer.blocks import block, byte_level
from tests.market.scripted import CARD, ScriptedEngine
from tests.waiting import until
from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest, sha256
from tirami.infer import Engine
from tirami.node.mesh.tokenizers import Tokenizers

KNOWN = block(byte_level("gpt-2"))


class Blocks:
    """Of one model; counts how often it was asked for any."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, digest: Digest) -> bytes | None:
        self.asked += 1
        if digest == sha256(b"unreadable"):
            raise ModelLoadError("the file is cut off")
        return {KNOWN.digest: KNOWN.data, sha256(b"no block"): b"no block"}.get(digest)


def engine(tokenizer: Digest) -> Engine:
    made = ScriptedEngine()
    made.card = replace(CARD, tokenizer_digest=tokenizer)
    return made


@asynccontextmanager
async def looked_after(blocks: Blocks, sellable: Sequence[Engine]) -> AsyncIterator[Tokenizers]:
    tokenizers = Tokenizers(blocks)  # type: ignore[arg-type]
    running = asyncio.create_task(tokenizers.run(lambda: sellable))
    try:
        yield tokenizers
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_what_is_for_sale_is_counted_by_its_own_tokenizer_and_forgotten_when_it_is_not() -> None:
    sellable, blocks = [engine(KNOWN.digest)], Blocks()
    async with looked_after(blocks, sellable) as tokenizers:
        assert tokenizers.canon(KNOWN.digest) is None, "nothing is sold before it is there"
        await until(lambda: tokenizers.canon(KNOWN.digest) is not None)
        first, second = tokenizers.canon(KNOWN.digest), tokenizers.canon(KNOWN.digest)
        assert first is not None and second is not None
        assert (first.feed(b"abc"), first.feed(b"d"), second.feed(b"a")) == (3, 4, 1), "each answer has its own count"
        sellable.clear()
        await until(lambda: tokenizers.canon(KNOWN.digest) is None)
        assert blocks.asked == 1


async def test_a_model_that_nobody_could_check_is_not_sold_and_its_owner_is_told_once() -> None:
    digests = [sha256(name) for name in (b"unreadable", b"no block", b"missing")]
    blocks = Blocks()
    with structlog.testing.capture_logs() as logs:
        async with looked_after(blocks, [engine(digest) for digest in digests]) as tokenizers:
            await until(lambda: len([log for log in logs if log["event"] == "model_not_sold"]) == 3)
            await asyncio.sleep(0.6)
            assert all(tokenizers.canon(digest) is None for digest in digests)
    assert blocks.asked == 3
    reasons = " ".join(log["reason"] for log in logs)
    assert "cut off" in reasons and "not among the installed ones" in reasons
