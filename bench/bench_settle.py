"""Settled trades a second: quote, gate, hold, acceptance, voucher, countersignature, verification, durable."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from tests.market.scripted import ScriptedEngine

from bench.pairs import ratios
from bench.result import Result, measured
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey, journal_key, local_user_key, verify
from tirami.core.units import Ppm
from tirami.infer import Sampling
from tirami.ledger import LOCAL, Heads, Ledger, Payer
from tirami.market import InferenceMarket, Load, Order
from tirami.proto import NetworkFile

TRADES, CLIENTS = 400, 24


async def run() -> list[Result]:
    """The rate as a share of what two signatures and two verifications alone would allow, in the same run."""
    with tempfile.TemporaryDirectory() as home:
        node = SigningKey.generate()
        user = local_user_key(node)
        network = NetworkFile.regtest(node.public_key)
        path = Path(home) / "journal.db"
        ledger = Ledger.open(
            path,
            network=network,
            node=node,
            local_user=user.public_key,
            clock=SystemClock(),
            journal_key=journal_key(node),
        )
        await ledger.start(os.urandom)
        load = Load(follow=False, half_life_ms=1, prompt_ppm=Ppm(250_000))
        market = InferenceMarket(ledger, Heads(ledger, node), node, load, os.urandom)
        engine = ScriptedEngine(1)
        prompt = await engine.prepare([{"role": "user", "content": "one"}])
        payer = Payer(user.public_key, user, LOCAL)
        rates: list[float] = []

        async def one() -> None:
            order = Order(payer, engine, prompt, Sampling(max_tokens=1, seed=1), 1, "bench")
            ticket = await market.begin_inference(order)
            async with market.execute(ticket, payer.key, streamed=False) as session:
                async for _ in session:
                    pass
                session.deliver()
                await session.settle()

        async def settled() -> float:
            queue = iter(range(TRADES))

            async def client() -> None:
                for _ in queue:
                    await one()

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            rates.append(TRADES / (time.perf_counter() - began))
            return rates[-1]

        async def signatures() -> float:
            message = os.urandom(300)
            signature = node.sign(message)
            began = time.perf_counter()
            for _ in range(TRADES):
                node.sign(message)
                user.sign(message)
                verify(node.public_key, signature, message)
                verify(node.public_key, signature, message)
            return TRADES / (time.perf_counter() - began)

        shares = await ratios(settled, signatures)
        await ledger.close()
    return [
        measured("settled trades ÷ (2 sign + 2 verify)", shares, "ratio", least=0.6),
        measured("settled trades", rates, "1/s"),
    ]
