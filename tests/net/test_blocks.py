"""Tokenizer blocks from a peer, in memory under the virtual clock: brought whole, slowly, not at all, another one."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.infer.blocks import byte_level, packed
from tirami.core.errors import ConnectionLost, PeerRefused, TokenizerError, WireError
from tirami.core.keys import Digest, PublicKey, SigningKey, sha256
from tirami.infer import MetadataBlock
from tirami.net import FrameReader, FrameWriter, Stream, registry
from tirami.net.blocks import FETCH_S, PART, SILENCE_S, Bringer, fetch
from tirami.proto import BlockFollows, BlockPart, BlockWanted
from tirami.testing import MemoryNetwork, run_virtually

DATA = packed(byte_level("qwen2", **{"tokenizer.chat_template": "x" * (3 * PART)}))
DIGEST = sha256(DATA)
WANTED = registry(BlockWanted)
Answer = Callable[[PublicKey, Stream, BlockWanted], Awaitable[None]]


def fetched(answer: Answer | None, silence_s: float = SILENCE_S, digest: Digest = DIGEST) -> tuple[object, float]:
    """What came of asking a peer that answers like this, block or error, and the seconds it took."""

    async def main() -> tuple[object, float]:
        memory = MemoryNetwork(seed=1)
        mine, theirs = (memory.endpoint(SigningKey.generate().public_key) for _ in range(2))
        connection = await mine.connect(theirs.address(), 5)
        answered = await theirs.accept()
        assert answered is not None

        async def bring() -> None:
            stream = await answered.accept()
            wanted = await FrameReader(stream, WANTED).read()
            assert isinstance(wanted, BlockWanted)
            if answer is None:
                answered.close("gone")
            else:
                await answer(mine.key, stream, wanted)

        began, bringing = asyncio.get_running_loop().time(), asyncio.create_task(bring())
        try:
            peer = SimpleNamespace(connection=connection)
            found: object = await fetch(peer, digest, silence_s)  # type: ignore[arg-type]
        except Exception as error:
            found = error
        took = asyncio.get_running_loop().time() - began
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
        return found, took

    return run_virtually(main())


def having(data: bytes | None) -> Answer:
    return Bringer(lambda _: data).bring


def parts(*, pause_s: float, count: int | None = None) -> Answer:
    """The block in its parts, with pauses; only so many of them."""

    async def bring(_: PublicKey, stream: Stream, __: BlockWanted) -> None:
        writer = FrameWriter(stream)
        await writer.write(BlockFollows(len(DATA)))
        for number, start in enumerate(range(0, len(DATA), PART)):
            if number == count:
                await asyncio.Event().wait()
            await asyncio.sleep(pause_s)
            await writer.write(BlockPart(DATA[start : start + PART]))

    return bring


def test_it_comes_in_parts_and_is_checked() -> None:
    block, _ = fetched(having(DATA))
    assert isinstance(block, MetadataBlock) and block.data == DATA


def test_who_has_none_says_so() -> None:
    refusal, took = fetched(having(None))
    assert isinstance(refusal, PeerRefused) and refusal.data["refused"] == "not_found"
    assert took < 0.1


def test_another_block_is_not_taken() -> None:
    refusal, _ = fetched(having(DATA[:-1]))
    assert isinstance(refusal, TokenizerError) and refusal.data["expected"] == DIGEST.hex()


@pytest.mark.parametrize("silence_s", [SILENCE_S, 1.5])
@pytest.mark.parametrize("count", [0, 2])
def test_a_peer_without_a_word_is_given_up_soon(silence_s: float, count: int) -> None:
    """Before the first part or after some."""
    error, took = fetched(parts(pause_s=0.5, count=count), silence_s)
    assert isinstance(error, ConnectionLost), error
    assert took == pytest.approx(silence_s + 0.5 * count, abs=0.1)
    assert SILENCE_S < 5


def test_a_peer_that_never_answers_is_given_up_as_soon() -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    error, took = fetched(silent)
    assert isinstance(error, ConnectionLost)
    assert took == pytest.approx(SILENCE_S, abs=0.1)


def test_a_slow_one_is_waited_for_as_long_as_something_comes() -> None:
    block, took = fetched(parts(pause_s=1.4), silence_s=1.5)
    assert isinstance(block, MetadataBlock)
    assert took == pytest.approx(4 * 1.4, abs=0.1)


def test_but_not_for_ever() -> None:
    async def drips(_: PublicKey, stream: Stream, __: BlockWanted) -> None:
        writer = FrameWriter(stream)
        await writer.write(BlockFollows(1 << 20))
        while True:
            await writer.write(BlockPart(b"x"))
            await asyncio.sleep(1)

    error, took = fetched(drips)
    assert isinstance(error, ConnectionLost)
    assert took == pytest.approx(FETCH_S, abs=1)


def test_a_connection_that_ends_is_noticed_at_once() -> None:
    error, took = fetched(None)
    assert isinstance(error, ConnectionLost)
    assert took < 0.1


def test_an_end_before_the_end_and_more_than_announced_are_told() -> None:
    def said(*messages: Any) -> Answer:
        async def bring(_: PublicKey, stream: Stream, __: BlockWanted) -> None:
            for message in messages:
                await FrameWriter(stream).write(message)
            await stream.finish()

        return bring

    assert isinstance(fetched(said(BlockFollows(9), BlockPart(b"short")))[0], ConnectionLost)
    assert isinstance(fetched(said(BlockFollows(3), BlockPart(b"long")))[0], WireError)
    assert isinstance(fetched(said(BlockPart(b"unasked")))[0], WireError)


def test_a_peer_brings_a_few_at_a_time() -> None:
    """What it holds in memory for others is bounded; who comes too many times is told to come again."""

    class Unread:
        """Takes no part."""

        said = 0

        async def write(self, data: bytes) -> None:
            if len(data) > PART:
                await asyncio.Event().wait()
            Unread.said += 1

        async def finish(self) -> None: ...

    async def main() -> tuple[int, int]:
        bringer, key = Bringer(lambda _: DATA), SigningKey.generate().public_key
        bringing = [
            asyncio.create_task(bringer.bring(key, Unread(), BlockWanted(DIGEST)))  # type: ignore[arg-type]
            for _ in range(5)
        ]
        refused, waiting = await asyncio.wait(bringing, timeout=FETCH_S / 2)
        said = Unread.said
        await asyncio.wait(waiting, timeout=FETCH_S)
        assert all(isinstance(task.exception(), TimeoutError) for task in waiting)
        assert not bringer._bringing
        return len(refused), said

    assert run_virtually(main()) == (1, 5), "four have begun and wait, the fifth was refused"
