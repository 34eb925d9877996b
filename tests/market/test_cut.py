"""An answer of this node's own that ends inside a character: what is shown is what its trade says, and no more."""

from pathlib import Path

import pytest

from tests.market.conftest import opened_house
from tirami.core.keys import local_user_key
from tirami.infer import (
    ChildEngine,
    FinishReason,
    MetadataBlock,
    Sampling,
    Tokenizer,
    default_models_dir,
    resolve,
    shown,
)
from tirami.ledger import LOCAL, Payer
from tirami.market import Order
from tirami.proto import RunningHash

PROMPT = "猫と犬と鳥。😀🎉🐱😀🎉🐱😀🎉🐱 猫と犬と鳥。😀🎉🐱"


@pytest.mark.model
@pytest.mark.timeout(900)
async def test_text_and_usage_of_a_local_answer_that_is_cut_anywhere(tmp_path: Path) -> None:
    path = resolve("smollm2:135m").path
    tokenizer = Tokenizer.from_block(MetadataBlock.of_file(path))
    engine = ChildEngine(path, name="m", slots=1, context=1024, threads=2, models_dir=default_models_dir())
    await engine.start()
    try:
        async with opened_house(tmp_path) as house:
            user = local_user_key(house.node)
            owner = Payer(user.public_key, user, LOCAL)
            prompt = await engine.prepare_text(PROMPT)
            cut, before = 0, ""
            for most in range(1, 25):
                sampling = Sampling(max_tokens=most, seed=1, temperature=1.2)
                ticket = await house.market.begin_inference(Order(owner, engine, prompt, sampling, most, "req"))
                async with house.market.execute(ticket, owner.key, streamed=True) as session:
                    chunks = [chunk async for chunk in session]
                settlement, ids = session.settlement, [number for chunk in chunks for number in chunk.ids]
                assert settlement.reason in (FinishReason.LENGTH, FinishReason.STOP)
                text, trade = "".join(chunk.text for chunk in chunks), settlement.trade
                assert text.startswith(before), "each is the beginning of the next"
                before = text
                if trade is None:
                    assert text == "" and settlement.cost == 0
                    cut += 1
                    continue
                cut += settlement.reason is FinishReason.LENGTH and trade.completion_tokens < most
                if settlement.reading.ids_complete:
                    assert shown(tokenizer.decode(ids)).text == text
                    assert trade.completion_tokens == len(ids) <= most
                running = RunningHash(ticket.secret)
                for chunk in chunks:
                    running.update(chunk.ids, chunk.spelled)
                assert trade.running_hash == running.digest()
            print(f"{cut} of 24 answers are shorter than asked: they end before half a character")
            assert cut > 0
    finally:
        await engine.close()
