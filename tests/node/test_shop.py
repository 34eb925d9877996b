"""Whom a request is taken to: offers that do not fit are passed over, and so is who cannot be asked."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.infer.blocks import block, byte_level
from tests.market.scripted import CARD
from tests.net.session.conftest import Words
from tests.node.sellers import Market, Seller, market
from tests.waiting import until
from tirami.core.errors import ConnectionLost, PeerRefused, TokenizerError
from tirami.core.keys import Digest, Signer, SigningKey
from tirami.infer import MetadataBlock
from tirami.ledger import Circuit, FraudProven, KeyRotated
from tirami.ledger.breaker import MAX_ERRORS
from tirami.market import Provider
from tirami.net import Stream, blocks
from tirami.net.session import Purchase, Wanted
from tirami.node.mesh import shop as shop_module
from tirami.node.mesh.blocks import Blocks
from tirami.node.mesh.consent import keys_in
from tirami.proto import Successor, rotation, signed

DEAR = replace(CARD, parameters=10**10, active_parameters=10**10)
"""3 TRM a token."""
PROMPT_AND_20 = 21


def narrow(context: int) -> object:
    return replace(CARD, context_length=context)


def serving(found: Market) -> list[int]:
    return [seller.engine.opened for seller in found.sellers]


def preferred(found: Market, monkeypatch: pytest.MonkeyPatch, seller: Seller) -> None:
    """The buyer asks this one first."""
    shop = found.buyer.mesh.shop
    ranked = shop.providers

    def first(model: str | None, tokens: int) -> Iterator[Provider]:
        return iter(sorted(ranked(model, tokens), key=lambda one: one.peer.signal.node != bytes(seller.key)))

    monkeypatch.setattr(shop, "providers", first)


# --- what does not fit ----------------------------------------------------------------------------------------------


async def test_a_provider_that_is_too_dear_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [DEAR, DEAR, DEAR, DEAR, CARD]
    async with market(tmp_path, monkeypatch, 5, cards, **{"mesh.max_trm": 30}) as found:
        cheap = found.sellers[-1]
        for seller in found.sellers[:-1]:
            preferred(found, monkeypatch, seller)
        assert found.ranked()[0] is not cheap
        status, reply = await found.ask()
        assert status == 200, reply
        assert serving(found) == [0, 0, 0, 0, 1], "however many are too dear: none of them was asked"
        await until(lambda: cheap.node.net == -found.buyer.net == PROMPT_AND_20)


async def test_without_a_length_the_answer_is_as_long_as_it_may_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may answer with one token for what is allowed, the second with none: the limit is kept."""
    async with market(tmp_path, monkeypatch, 2, [CARD, DEAR], **{"mesh.max_trm": 4}) as found:
        cheap, dear = found.sellers
        preferred(found, monkeypatch, dear)
        status, reply = await found.ask(max_tokens=None)
        assert status == 200, reply
        assert serving(found) == [1, 0]
        assert 0 < -found.buyer.net <= 4
        assert reply["choices"][0]["finish_reason"] == "length"  # type: ignore[index]
        await until(lambda: cheap.node.net == -found.buyer.net)


async def test_where_all_are_too_dear_the_cheapest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 2, [DEAR, CARD], **{"mesh.max_trm": 5}) as found:
        status, reply = await found.ask()
        error = reply["error"]
        assert (status, error["code"], error["param"]) == (400, "invalid_request", "max_tokens")  # type: ignore[index]
        assert error["max_trm"] == 5 and error["cheapest_trm"] in (20, PROMPT_AND_20)  # type: ignore[index]
        assert "mesh.max_trm is 5" in error["message"]  # type: ignore[index]
        assert serving(found) == [0, 0] and found.buyer.net == 0


async def test_a_context_that_is_too_small_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the answer alone, or for prompt and answer: three tokens and twenty."""
    cards = [narrow(19), narrow(22), narrow(23)]
    async with market(tmp_path, monkeypatch, 3, cards) as found:  # type: ignore[arg-type]
        for seller in found.sellers[1::-1]:
            preferred(found, monkeypatch, seller)
        status, reply = await found.ask()
        assert status == 200, reply
        assert serving(found) == [0, 0, 1]


async def test_where_every_context_is_too_small_the_largest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2, [narrow(12), narrow(22)]) as found:  # type: ignore[list-item]
        status, reply = await found.ask()
        error = reply["error"]
        assert (status, error["code"]) == (400, "context_length_exceeded")  # type: ignore[index]
        assert (error["param"], error["largest_context"]) == ("max_tokens", 22)  # type: ignore[index]
        assert serving(found) == [0, 0] and found.buyer.net == 0


async def test_the_word_of_who_fitted_and_refused_goes_before_what_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2, [DEAR, CARD], **{"mesh.max_trm": 30}) as found:

        async def full(*_: object) -> None:
            raise PeerRefused("every place is taken", refused="queue_full", retry_after=5)

        monkeypatch.setattr(shop_module, "purchase", full)
        status, reply = await found.ask()
        assert (status, reply["error"]["code"]) == (503, "peer_refused")  # type: ignore[index]


async def test_nothing_is_bought_from_who_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose key is on the list is chosen by nobody, shown as denied, and asked for nothing, not even a block."""
    async with market(tmp_path, monkeypatch) as found:
        best, other = found.ranked()
        found.buyer.mesh.shop._consent._denied = keys_in(f"{best.key.hex()}, {'00' * 32}")
        assert found.ranked() == [other]
        assert found.buyer.mesh.shop.objection(best.key) == "it is on the deny list"
        status, reply = await found.ask()
        assert status == 200, reply
        assert (best.engine.opened, other.engine.opened) == (0, 1)
        assert list(found.buyer.mesh.shop._having(CARD.tokenizer_digest, bytes(32))) == [other.key]


# --- keys that follow others ----------------------------------------------------------------------------------------

OLD, THIEF = SigningKey.generate(), SigningKey.generate()


def following(found: Market, key: Signer, follower: Signer | None) -> KeyRotated:
    network = found.buyer.parts.ledger.network.id
    agreed = follower and Successor.agreeing(network, key.public_key, follower)
    order = signed(rotation(network, key, agreed, (0, 0), 0), key)
    return KeyRotated(order.body, order.signature)


@pytest.mark.parametrize("undone", ["contested", "revoked", "rotated again", "convicted"])
async def test_who_lawfully_follows_a_trusted_key_is_trusted_until_that_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undone: str
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        seller, ledger, shop = found.sellers[0], found.buyer.parts.ledger, found.buyer.mesh.shop
        consent = shop._consent
        monkeypatch.setattr(consent, "_config", replace(consent._config, consume="trusted"))
        monkeypatch.setattr(consent, "_trusted", keys_in(OLD.public_key.hex()))
        assert shop.objection(seller.key) == "it is not on the list of trusted providers"
        await ledger.append([following(found, OLD, seller.node.parts.key)])
        assert shop.objection(seller.key) is None
        match undone:
            case "contested":
                await ledger.append([following(found, OLD, THIEF)])
            case "revoked":
                await ledger.append([following(found, OLD, None)])
            case "rotated again":
                await ledger.append([following(found, seller.node.parts.key, THIEF)])
            case "convicted":
                await ledger.record_facts(FraudProven(OLD.public_key, b"a proof"))
        assert shop.objection(seller.key) is not None
        assert (shop.refusal(THIEF.public_key) is None) is (undone == "rotated again")


@pytest.mark.parametrize("contested", [False, True])
async def test_a_new_key_is_no_way_off_the_deny_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contested: bool
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        seller, ledger, shop = found.sellers[0], found.buyer.parts.ledger, found.buyer.mesh.shop
        monkeypatch.setattr(shop._consent, "_denied", keys_in(OLD.public_key.hex()))
        assert shop.objection(seller.key) is None
        await ledger.append([following(found, OLD, seller.node.parts.key)])
        if contested:
            await ledger.append([following(found, OLD, THIEF)])
        assert shop.objection(seller.key) == "it is on the deny list"


# --- the payer's breaker --------------------------------------------------------------------------------------------


async def test_other_nodes_that_fail_for_nothing_do_not_open_the_payers_breaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All providers fail before their first token, again and again; then one is well, and is bought from."""
    async with market(tmp_path, monkeypatch) as found:
        ledger = found.buyer.parts.ledger
        for seller in found.sellers:
            seller.engine.fail_after = 0
        for _ in range(MAX_ERRORS + 1):
            status, reply = await found.ask()
            assert (status, reply["error"]["code"]) == (503, "engine_failed")  # type: ignore[index]
        assert sum(serving(found)) == 2 * (MAX_ERRORS + 1)
        breaker = ledger.books(found.buyer.parts.key.public_key).breaker
        assert (breaker.errors, breaker.circuit(ledger.now())) == (0, Circuit.CLOSED)
        found.sellers[0].engine.fail_after = None
        status, reply = await found.ask()
        assert status == 200, reply


class Broken(Words):
    """What a buyer checks with; its seller's is whole."""


async def test_a_fault_of_this_node_in_a_bought_answer_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:

        def broken(*_: object) -> None:
            raise RuntimeError("a bug here")

        monkeypatch.setattr(Broken, "decode", broken)
        monkeypatch.setattr(shop_module, "TokenizerCheck", lambda _: Broken())
        status, _ = await found.ask()
        assert status == 500
        assert found.buyer.parts.ledger.books(found.buyer.parts.key.public_key).breaker.errors == 1


# --- tokenizers -----------------------------------------------------------------------------------------------------


class Peers:
    """Stands in for fetching a block: whom was it asked of, and what came of it."""

    def __init__(self, found: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[bytes] = []
        self.silences: list[float] = []
        self.answers: dict[bytes, Exception] = {}
        self._shop = found.buyer.mesh.shop
        self.block = object()
        monkeypatch.setattr(blocks, "fetch", self._fetch)

    async def _fetch(self, peer: object, digest: bytes, silence_s: float) -> object:
        key = bytes(peer.key)  # type: ignore[attr-defined]
        self.asked.append(key)
        self.silences.append(silence_s)
        if (error := self.answers.get(key)) is not None:
            if isinstance(error, ConnectionLost):
                await asyncio.sleep(silence_s / 100)
            raise error
        return self.block

    async def block_of(self, seller: Seller, silence_s: float = blocks.SILENCE_S) -> MetadataBlock:
        (provider,) = [one for one in self._shop.providers("scripted", 20) if one.peer.signal.node == seller.key]
        return await self._shop._block(provider, CARD.tokenizer_digest, silence_s)


async def test_a_block_comes_from_the_provider_or_from_another_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_tokenizer = replace(CARD, tokenizer_digest=bytes(32))
    async with market(tmp_path, monkeypatch, 3, [CARD, CARD, other_tokenizer]) as found:
        first, second, _ = found.sellers
        peers = Peers(found, monkeypatch)
        assert await peers.block_of(first) is peers.block
        assert peers.asked == [first.key]
        busy = peers.answers[first.key] = PeerRefused("busy", refused="queue_full")
        assert await peers.block_of(first) is peers.block
        assert peers.asked[1:] == [first.key, second.key]
        peers.answers[second.key] = PeerRefused("not here", refused="not_found")
        with pytest.raises(PeerRefused) as refused:
            await peers.block_of(first)
        assert refused.value is busy, "who serves has the last word"


@pytest.mark.parametrize("error", [ConnectionLost("no word"), TokenizerError("another block")])
async def test_who_gives_no_block_is_asked_for_no_quote_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The next provider is gone to within the patience of one that is not alone, and the first comes last for now."""
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        peers = Peers(found, monkeypatch)
        peers.answers[first.key] = error
        shop, prompter = found.buyer.mesh.shop, shop_module.Shop.prompter

        async def fetching(provider: object, silence_s: float) -> object:
            await shop._block(provider, CARD.tokenizer_digest, silence_s)  # type: ignore[arg-type]
            return await prompter(shop, provider, silence_s)  # type: ignore[arg-type]

        monkeypatch.setattr(shop, "prompter", fetching)
        status, reply = await found.ask()
        assert status == 200, reply
        assert (first.engine.opened, second.engine.opened) == (0, 1)
        assert peers.asked == [first.key, second.key]
        assert peers.silences == [1.5, blocks.SILENCE_S], "the last one is waited for the longer"
        assert found.ranked() == [second, first]


OF_TOMORROW = block(byte_level("a pre-tokenizer of tomorrow"))
OF_ANOTHER_SIZE = block(byte_level("gpt-2", **{"llama.block_count": CARD.layers + 1}))
PROMPTER = shop_module.Shop.prompter


@pytest.mark.parametrize("others", [1, 0])
@pytest.mark.parametrize(
    ("made", "more", "code", "why"),
    [
        (OF_TOMORROW, b"", "tokenizer_unusable", "unknown, so it cannot be checked: not bought"),
        (OF_ANOTHER_SIZE, b"", "bad_quote", "says something else than the provider: layers"),
        (OF_ANOTHER_SIZE, b"and more", "tokenizer_unusable", "this is not the metadata block asked for"),
    ],
    ids=["not understood", "contradicts the provider", "of another digest"],
)
async def test_a_model_whose_tokenizer_cannot_be_checked_is_not_bought(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: MetadataBlock,
    more: bytes,
    code: str,
    why: str,
    others: int,
) -> None:
    """Its block is brought by the provider: no quote is asked for, nothing is paid, and somebody else is taken."""
    brought: list[Digest] = []

    def bring(_: Blocks, digest: Digest) -> bytes | None:
        if digest != made.digest:
            return None
        brought.append(digest)
        return made.data + more

    monkeypatch.setattr(Blocks, "get", bring)
    cards = [replace(CARD, tokenizer_digest=made.digest), *[CARD] * others]
    async with market(tmp_path, monkeypatch, 1 + others, cards) as found:
        odd, *good = found.sellers
        preferred(found, monkeypatch, odd)
        shop, in_numbers = found.buyer.mesh.shop, shop_module.Shop.prompter
        quoting, asked = shop_module.purchase, list[bytes]()

        async def purchase(stream: Stream, wanted: Wanted, *more: Any) -> Purchase:
            asked.append(wanted.provider)
            return await quoting(stream, wanted, *more)

        async def prompter(provider: Provider, silence_s: float) -> object:
            real = provider.peer.signal.node == odd.key
            return await (PROMPTER if real else in_numbers)(shop, provider, silence_s)

        monkeypatch.setattr(shop, "prompter", prompter)
        monkeypatch.setattr(shop_module, "purchase", purchase)
        brought.clear()  # the seller has looked at it, too
        status, reply = await found.ask()
        assert brought == [made.digest]
        assert set(shop._broke) == {odd.key}, "it comes last for now"
        if others:
            assert status == 200, reply
            await until(lambda: good[0].node.net == -found.buyer.net == PROMPT_AND_20)
        else:
            error = reply["error"]
            assert status >= 500 and error["code"] == code, reply  # type: ignore[index]
            assert why in error["message"]  # type: ignore[index]
            assert found.buyer.net == 0
        assert serving(found) == [0, *[1] * others] and asked == [one.key for one in good]
        assert odd.node.net == 0 and not found.buyer.parts.ledger.state.holds.open


async def test_a_provider_that_is_lost_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        shop = found.buyer.mesh.shop
        prompter = shop.prompter

        async def lost(provider: object, *_: object) -> object:
            if provider.peer.signal.node == first.key:  # type: ignore[attr-defined]
                await first.node.mesh.mesh._endpoint.close()
                await until(lambda: first.key not in found.buyer.mesh.mesh.peers)
            return await prompter(provider)  # type: ignore[arg-type]

        monkeypatch.setattr(shop, "prompter", lost)
        status, reply = await found.ask()
        assert status == 200, reply
        assert (first.engine.opened, second.engine.opened) == (0, 1)
