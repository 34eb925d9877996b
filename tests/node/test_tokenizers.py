"""What a seller counts with: there before anything is offered, gone when it is not for sale; without one, no sale."""

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog.testing

from tests.infer.blocks import block, byte_level
from tests.market.scripted import CARD, ScriptedEngine
from tests.waiting import until
from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest, sha256
from tirami.infer import Engine
from tirami.node.mesh import tokenizers
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
    made = Tokenizers(blocks)  # type: ignore[arg-type]
    running = asyncio.create_task(made.run(lambda: sellable))
    try:
        yield made
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


async def test_what_could_not_be_read_is_tried_again_and_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may fail for a moment: before, the model was not sold until the next start."""
    monkeypatch.setattr(tokenizers, "LOOK_S", 0.01)
    monkeypatch.setattr(tokenizers, "AGAIN_S", 0.05)

    class Failing(Blocks):
        def get(self, digest: Digest) -> bytes | None:
            data = super().get(digest)
            if self.asked <= 3:
                raise OSError(errno.EIO, "input/output error")
            return data

    blocks = Failing()
    with structlog.testing.capture_logs() as logs:
        async with looked_after(blocks, [engine(KNOWN.digest)]) as found:
            await until(lambda: found.canon(KNOWN.digest) is not None)
    assert blocks.asked == 4
    assert [log["event"] for log in logs] == ["model_not_sold"]
