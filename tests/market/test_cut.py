"""An answer of this node's own that ends inside a character: what is shown is what its trade says, and no more."""

import asyncio
from pathlib import Path

import pytest

from tests.market.conftest import opened_house
from tirami.core.keys import local_user_key
from tirami.infer import (
    ChildEngine,
    Chunk,
    FinishReason,
    MetadataBlock,
    Sampling,
    Tokenizer,
    default_models_dir,
    resolve,
    shown,
)
from tirami.ledger import LOCAL, Payer
from tirami.market import Order, Settlement
from tirami.proto import RunningHash

SLOTS = 4
LONGEST = 24
QUESTION = "😀🎉🐱🦊🚀🌍"


@pytest.mark.model
@pytest.mark.timeout(1800)
async def test_text_and_usage_of_a_local_answer_that_is_cut_anywhere(tmp_path: Path) -> None:
    path = resolve("smollm2:135m").path
    tokenizer = Tokenizer.from_block(MetadataBlock.of_file(path))
    engine = ChildEngine(path, name="m", slots=SLOTS, context=1024, threads=2, models_dir=default_models_dir())
    await engine.start()
    try:
        async with opened_house(tmp_path) as house:
            user = local_user_key(house.node)
            owner = Payer(user.public_key, user, LOCAL)
            prompt = await engine.prepare([{"role": "user", "content": QUESTION}])
            places = asyncio.Semaphore(SLOTS)

            async def answered(most: int) -> tuple[list[Chunk], Settlement]:
                async with places:
                    sampling = Sampling(max_tokens=most, seed=0, temperature=1.2)
                    ticket = await house.market.begin_inference(Order(owner, engine, prompt, sampling, most, "req"))
                    running = RunningHash(ticket.secret)
                    async with house.market.execute(ticket, owner.key, streamed=True) as session:
                        chunks = [chunk async for chunk in session]
                trade = session.settlement.trade
                for chunk in chunks:
                    running.update(chunk.ids, chunk.spelled)
                assert trade is None or trade.running_hash == running.digest()
                return chunks, session.settlement

            found = await asyncio.gather(*(answered(most) for most in range(1, LONGEST + 1)))
            cut, before = 0, ""
            for most, (chunks, settlement) in enumerate(found, 1):
                text, ids = "".join(chunk.text for chunk in chunks), [one for chunk in chunks for one in chunk.ids]
                assert text.startswith(before), "each is the beginning of the next"
                assert settlement.reason is FinishReason.LENGTH and settlement.reading.ids_complete
                assert shown(tokenizer.decode(ids)).text == text
                billed = settlement.trade.completion_tokens if settlement.trade else 0
                assert billed == len(ids) <= most and (billed > 0 or settlement.cost == 0)
                cut, before = cut + (billed < most), text
            print(f"{cut} of {LONGEST} answers are shorter than asked: they end before half a character")
            assert cut > 0
    finally:
        await engine.close()
