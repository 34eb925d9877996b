"""Answers of a real model that end inside a character, are no text, or stop inside a token: nobody honest is blamed."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.net.session.conftest import Mesh, opened_mesh
from tirami.infer import (
    ChildEngine,
    FinishReason,
    MetadataBlock,
    Prompt,
    Prompter,
    Sampling,
    Shaping,
    default_models_dir,
    resolve,
)
from tirami.infer.rendering import RenderingProcesses
from tirami.ledger import PolicySet
from tirami.market import Settlement
from tirami.net.session import Sale, purchase, remote_answer
from tirami.node.mesh.tokenizers import TokenizerCheck

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
AT_ONCE = 3
"""A peer has four places."""
QUESTIONS = ("😀🎉🐱🦊🚀🌍", "한국어로 시를 써 주세요.")
LONGEST = 24
ENDS = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.UNCHECKABLE)


@dataclass
class Outcome:
    text: str
    settlement: Settlement
    kept: bool | None


@dataclass
class Market:
    """A provider with the real model, and who buys of it."""

    mesh: Mesh
    engine: ChildEngine
    prompter: Prompter
    sales: list[Sale]

    async def buy(self, prompt: Prompt, sampling: Sampling) -> Outcome:
        mesh, card = self.mesh, self.engine.card
        wanted = mesh.wanted(
            model_digest=card.digest, tokenizer_digest=card.tokenizer_digest, prompt=prompt, sampling=sampling
        )
        stream, now = await mesh.connection.open(), mesh.payer.ledger.now()
        bought = await purchase(stream, wanted, TokenizerCheck(self.prompter.tokenizer), os.urandom, now)
        async with await mesh.begun(bought) as session:
            text = "".join([chunk.text async for chunk in session])
        await bought.close()
        return Outcome(text, session.settlement, bought.kept)

    async def settled(self, outcomes: list[Outcome]) -> None:
        """Every answer ended well, and whatever was delivered both have signed for."""
        await self.mesh.quiet()
        trades = {admitted.body: admitted.envelope.signatures for admitted in self.mesh.provider.booked}
        for outcome in outcomes:
            assert outcome.settlement.reason in ENDS and outcome.kept is not False
            trade = outcome.settlement.trade
            assert outcome.settlement.owed is None and (trade is not None or not outcome.text)
            assert trade is None or len(trades[trade]) == 2
        assert len(self.sales) == len(outcomes) and all(sale.unpaid == 0 for sale in self.sales)
        assert self.mesh.provider.net == -self.mesh.payer.net == sum(one.settlement.cost for one in outcomes)


@asynccontextmanager
async def opened_market(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    path = resolve("smollm2:135m").path
    prompter = Prompter.from_block(MetadataBlock.of_file(path), RenderingProcesses(0))
    engine = ChildEngine(path, name="m", slots=4, context=1024, threads=2, models_dir=default_models_dir())
    sales: list[Sale] = []
    await engine.start()
    try:
        async with opened_mesh(home, voucher_tokens=10, welcome_limit=10**6, unwitnessed_daily_limit=10**6) as mesh:
            monkeypatch.setattr(mesh.service, "_sold", sales.append)
            for wait in ("FIRST_S", "IDLE_S"):  # a busy machine is no provider that stalls
                monkeypatch.setattr(remote_answer, wait, 600.0)
            mesh.desk.engine = engine  # type: ignore[assignment]
            mesh.desk.canon = lambda: TokenizerCheck(prompter.tokenizer)
            limits = PolicySet(mesh.payer.key.public_key, None, None, None, None, None)  # more than 30 a minute
            await mesh.payer.ledger.record_facts(limits)
            yield Market(mesh, engine, prompter, sales)
    finally:
        await engine.close()


async def test_an_answer_may_be_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_market(tmp_path, monkeypatch) as market:
        prompts = [await market.prompter.prepare([{"role": "user", "content": asked}]) for asked in QUESTIONS]
        places = asyncio.Semaphore(AT_ONCE)

        async def bought(prompt: Prompt, most: int) -> Outcome:
            async with places:
                return await market.buy(prompt, Sampling(max_tokens=most, seed=0, temperature=1.2))

        wanted = [(prompt, most) for most in range(1, LONGEST + 1) for prompt in prompts]
        outcomes = await asyncio.gather(*(bought(*each) for each in wanted))
        await market.settled(outcomes)
        early = [outcome for outcome in outcomes if outcome.settlement.reason is FinishReason.UNCHECKABLE]
        cut = [
            most
            for (_, most), outcome in zip(wanted, outcomes, strict=True)
            if outcome.settlement.reason is FinishReason.LENGTH
            and (outcome.settlement.trade is None or outcome.settlement.trade.completion_tokens < most)
        ]
        print(f"{len(outcomes)} answers, {len(cut)} end before half a character, {len(early)} uncheckable")
        assert cut, "none of them ended inside a character: other prompts are needed"


async def test_what_shapes_an_answer_cannot_make_a_provider_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that are no text, tokens that never become a character, and a stop text inside a token."""
    async with opened_market(tmp_path, monkeypatch) as market:
        tokenizer = market.prompter.tokenizer
        by_bytes = {tokenizer.decode([number]): number for number in range(len(tokenizer))}
        prompt = market.prompter.prepare_text("Once upon a time there was")

        async def biased(token: bytes) -> Outcome:
            shaping = Shaping(logit_bias=((by_bytes[token], 100.0),))
            return await market.buy(prompt, Sampling(max_tokens=5, seed=1, temperature=1.2, shaping=shaping))

        async def plain(*stop: str) -> Outcome:
            return await market.buy(prompt, Sampling(max_tokens=8, seed=1, temperature=0, shaping=Shaping(stop=stop)))

        no_text, begun, whole = await biased(b"\x98"), await biased(b"\xf0\x9f"), await plain()
        inside = whole.text.strip()[1]
        stopped, seeming = await plain(inside), await plain(whole.text[-1] + "never said")
        await market.settled([no_text, begun, whole, stopped, seeming])
        assert (no_text.text, no_text.settlement.reason) == ("\ufffd" * 5, FinishReason.LENGTH)
        assert no_text.kept
        assert (begun.text, begun.settlement.reason, begun.kept) == ("", FinishReason.LENGTH, None)
        assert (stopped.text, stopped.settlement.reason) == (whole.text.partition(inside)[0], FinishReason.STOP)
        assert seeming.text == whole.text
