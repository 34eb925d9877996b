"""What strangers sign, and when: two whole nodes that know nothing of each other but their keys (L1-03, I-06)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.node.nodes import Node
from tests.node.sellers import Market, market
from tests.waiting import until
from tirami.core.keys import Signature, SigningKey, verify
from tirami.ledger import PolicySet
from tirami.ledger.receivables import Receivables
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer, provider, remote_answer, serving
from tirami.proto import (
    Accept,
    Acceptance,
    Message,
    Offer,
    Payment,
    Piece,
    Quote,
    SignedBody,
    Trade,
    decode,
    encode,
    parse_receipt,
    sign,
)
from tirami.verify import verify_receipt

PROMPT_AND_20 = 21
"""TRM: three prompt tokens at a quarter, and 20."""
Twist = Callable[[Message], Message | None]


class Said:
    """What one side sends; ``twist`` may have it say something else, or nothing (``None``)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, side: Any, twist: Twist = lambda message: message) -> None:
        self.accepted: list[Acceptance] = []
        self.vouched: list[Trade] = []
        said = self

        class Tapped(FrameWriter):
            async def write(self, message: Message) -> None:
                match twisted := twist(message):
                    case None:
                        return
                    case Accept():
                        said.accepted.append(decode(Acceptance, twisted.acceptance.body))
                    case Payment():
                        said.vouched.append(decode(Trade, twisted.trade.body))
                await super().write(twisted)

        monkeypatch.setattr(side, "FrameWriter", Tapped)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 0.5)
    monkeypatch.setattr(serving, "IDLE_S", 0.3)


def balances(found: Market) -> list[int]:
    """The seller's and the buyer's, in the book of each."""
    keys = [found.sellers[0].key, found.buyer.parts.key.public_key]
    books = [found.sellers[0].node.parts.ledger, found.buyer.parts.ledger]
    return [ledger.balance(key).net for ledger in books for key in keys]


async def receipt(found: Market, node: Node, trade: str) -> bytes:
    headers = {"authorization": f"Bearer {node.parts.admin_token}"}
    async with found.http.get(f"{node.url}/v1/tirami/trades/{trade}/receipt", headers=headers) as reply:
        assert reply.status == 200
        return await reply.read()


@pytest.mark.row("L1-03")
async def test_two_strangers_sign_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the trade, and the receipt of either can be verified by whoever has neither node nor network."""
    async with market(tmp_path, monkeypatch, 1) as found:
        status, reply = await found.ask()
        assert status == 200, reply
        paid = reply["x_tirami"]
        (seller,), buyer = found.sellers, found.buyer
        cost, payer = paid["trm_cost"], buyer.parts.key.public_key  # type: ignore[index]
        assert cost == PROMPT_AND_20
        await until(lambda: balances(found) == [cost, -cost, cost, -cost])
        signed = set()
        for node in (seller.node, buyer):
            data = await receipt(found, node, paid["trade_id"])  # type: ignore[index]
            verified = verify_receipt(data, frozenset({seller.key, node.parts.key.public_key}))
            file = parse_receipt(data)
            body = bytes.fromhex(file.body)
            for key, signature in zip((payer, seller.key), file.signatures, strict=True):
                assert verify(key, Signature(bytes.fromhex(signature)), Trade.TAG + body)
            accepted = decode(Acceptance, bytes.fromhex(file.acceptance))
            assert (verified.trade.amount, accepted.payer, accepted.provider) == (cost, payer, seller.key)
            assert accepted.ceiling >= cost
            signed.add((file.body, *file.signatures))
        assert len(signed) == 1, "the same bytes and the same two signatures at both"


# --- the payer checks before it signs --------------------------------------------------------------------------------


def another_quote(key: SigningKey, **fields: object) -> Twist:
    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        quote = msgspec.structs.replace(decode(Quote, message.quote.body), **fields)
        return msgspec.structs.replace(message, quote=SignedBody(encode(quote), sign(quote, key)))

    return twist


@pytest.mark.row("L1-03")
@pytest.mark.parametrize("field", ["signature", "price_in", "price_out", "prompt_tokens", "max_tokens", "model_digest"])
async def test_a_quote_of_another_key_or_of_something_else_is_not_signed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    lies: dict[str, object] = {"price_in": 500_000, "price_out": 1_000_001, "prompt_tokens": 4, "max_tokens": 21}
    lies["model_digest"] = bytes(32)
    async with market(tmp_path, monkeypatch, 1) as found:
        (seller,) = found.sellers
        key = SigningKey.generate() if field == "signature" else seller.node.parts.key
        changed = {} if field == "signature" else {field: lies[field]}
        Said(monkeypatch, provider, another_quote(key, **changed))
        said = Said(monkeypatch, consumer)
        status, reply = await found.ask()
        assert (status, reply["error"]["code"]) == (502, "bad_quote")  # type: ignore[index]
        assert reply["error"]["param"] == field  # type: ignore[index]
        assert (said.accepted, said.vouched, seller.engine.opened) == ([], [], 0)
        assert balances(found) == [0, 0, 0, 0]


@pytest.mark.row("L1-03")
@pytest.mark.parametrize("lie", [{"count": 9}, {"text": b"99 "}, {"ids": (999,)}, {"running_hash": bytes(32)}], ids=str)
async def test_tokens_that_do_not_add_up_are_not_signed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: dict[str, object]
) -> None:
    """From the eighth piece on: what was right before it is all that is ever signed for."""
    impatient(monkeypatch)
    async with market(tmp_path, monkeypatch, 1) as found:

        def twist(message: Message) -> Message:
            if isinstance(message, Piece) and message.count >= 8:
                return msgspec.structs.replace(message, **lie)
            return message

        Said(monkeypatch, provider, twist)
        said = Said(monkeypatch, consumer)
        status, reply = await found.ask()
        assert status == 200, reply
        choice = reply["choices"][0]  # type: ignore[index]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("provider_failed", "0 1 2 3 4 5 6 ")
        assert 0 < max(trade.completion_tokens for trade in said.vouched) <= 7
        await until(lambda: 0 < balances(found)[0] == -balances(found)[3])
        assert balances(found)[0] <= 1 + 7


@pytest.mark.row("L1-03")
async def test_nothing_is_signed_beyond_the_payers_own_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        payer, said = found.buyer.parts.key.public_key, Said(monkeypatch, consumer)
        policy = PolicySet(payer, PROMPT_AND_20 - 1, None, None, None, None)
        await found.buyer.parts.ledger.record_facts(policy)
        status, reply = await found.ask()
        assert (status, reply["error"]["code"]) == (403, "budget_exceeded")  # type: ignore[index]
        assert (said.accepted, said.vouched) == ([], [])
        status, reply = await found.ask(max_tokens=19)
        assert status == 200, reply
        assert all(accepted.ceiling <= PROMPT_AND_20 - 1 for accepted in said.accepted)


# --- without the other's signature no balance changes (I-06) ---------------------------------------------------------


@pytest.mark.row("L1-03")
async def test_a_payer_that_never_signs_leaves_a_claim_and_no_balance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        (seller,) = found.sellers
        ledger = seller.node.parts.ledger
        Said(monkeypatch, consumer, lambda message: None if isinstance(message, Payment) else message)
        asking = asyncio.create_task(found.ask())
        await until(lambda: ledger.state.claims.open)
        (claim,) = ledger.state.claims.open.values()
        assert (claim.opened.payer, claim.amount) == (found.buyer.parts.key.public_key, 0)
        impatient(monkeypatch)
        await asking
        await until(lambda: not ledger.state.claims.open)
        assert balances(found) == [0, 0, 0, 0]
        assert ledger.state.network_totals.trades == 0


@pytest.mark.row("L1-03")
async def test_a_voucher_without_the_providers_signature_is_a_claim_and_no_trade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored, unsettled, by both: the payer owes what it has signed; balances change when the provider signs, too."""
    impatient(monkeypatch)
    async with market(tmp_path, monkeypatch, 1) as found:
        (seller,), payer = found.sellers, found.buyer.parts.key.public_key

        async def silent(*_: object) -> None:
            return None

        with monkeypatch.context() as broken:
            broken.setattr(Receivables, "settle", silent)
            status, reply = await found.ask()
        assert status == 200, reply
        owed = reply["x_tirami"]["owed_trm"]  # type: ignore[index]
        assert (owed, reply["x_tirami"]["trade_id"]) == (PROMPT_AND_20, None)  # type: ignore[index]
        ledger = seller.node.parts.ledger
        ((claim_id, claim),) = ledger.state.claims.open.items()
        assert claim.amount == owed
        assert balances(found) == [0, 0, 0, 0]
        books = found.buyer.parts.ledger.books(payer)
        assert (books.settled, books.held) == (owed, 0), "what it signed for counts, whatever comes of it"
        assert await ledger.receivables.settle(claim_id, "stop") is not None
        await until(lambda: balances(found) == [owed, -owed, owed, -owed])
        assert books.settled == owed, "and counts once"
