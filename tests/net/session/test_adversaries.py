"""One side cheats: what it gains, as a number, and what both books say afterwards (PROTOCOL B10, B11)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.market.scripted import CARD
from tests.net.session.conftest import PROMPT, Mesh, Words, mesh, opened_mesh
from tirami.core.errors import BadQuote, EngineFailed, PeerRefused, ProviderStalled, TokenizerError
from tirami.core.keys import SigningKey
from tirami.core.units import MicroTrm
from tirami.infer import FinishReason, ModelSize, flop
from tirami.ledger import Price
from tirami.ledger.receivables import Receivables
from tirami.market import Settlement
from tirami.net.frames import FrameWriter
from tirami.net.session import SESSION_S, Sale, consumer, provider, remote_answer, serving
from tirami.net.session.terms import window
from tirami.proto import (
    Accept,
    Acceptance,
    Message,
    Offer,
    Parameters,
    Payment,
    Piece,
    Quote,
    RunningHash,
    SignedBody,
    Trade,
    Working,
    decode,
    encode,
    sign,
)
from tirami.testing import VirtualClock, run_virtually
from tirami.testing.rogue.lies import bent, flipped

__all__ = ["mesh"]
Twist = Callable[[Message], Message | None]


def twisted(monkeypatch: pytest.MonkeyPatch, side: Any, twist: Twist) -> None:
    """Let one side say something else than it would; ``None`` swallows the message."""

    class Lying(FrameWriter):
        async def write(self, message: Message) -> None:
            if (said := twist(message)) is not None:
                await super().write(said)

    monkeypatch.setattr(side, "FrameWriter", Lying)


def changed(kind: type[Message], **fields: Any) -> Twist:
    """From the fifth message of a kind on, with other fields."""
    seen = 0

    def twist(message: Message) -> Message:
        nonlocal seen
        seen += isinstance(message, kind)
        if not isinstance(message, kind) or seen < 5:
            return message
        told = {name: value(message) if callable(value) else value for name, value in fields.items()}
        return msgspec.structs.replace(message, **told)

    return twist


def resigned(record: Any, body: bytes, key: SigningKey, **fields: Any) -> SignedBody:
    other = msgspec.structs.replace(decode(record, body), **fields)
    return SignedBody(encode(other), sign(other, key))


# --- a provider cheats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"count": lambda piece: piece.count + 1},
        {"text": lambda piece: b"99 "},
        {"ids": lambda piece: (99,)},
        {"running_hash": bytes(32)},
        {"text": lambda piece: piece.text + b"\xff"},
    ],
    ids=["inflated count", "other text", "other ids", "other hash", "no text"],
)
async def test_a_piece_that_does_not_add_up_ends_the_session(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    """The four pieces before it are paid for, and nothing else."""
    twisted(monkeypatch, provider, changed(Piece, **lie))
    text, settlement = await mesh.buy(10)
    await mesh.quiet()
    assert text == "0 1 2 3 "
    assert settlement.reason is FinishReason.FAILED
    books = mesh.payer.ledger.books(mesh.payer.key.public_key)
    assert books.settled <= len(PROMPT) + 4
    assert mesh.provider.net <= len(PROMPT) + 4
    assert not mesh.payer.ledger.state.holds.open


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price_out", 2_000_000),
        ("price_in", 2_000_000),
        ("model_digest", bytes(32)),
        ("tokenizer_digest", bytes(32)),
        ("prompt_tokens", 4),
        ("prompt_hash", bytes(32)),
        ("seed", 8),
        ("temperature_ppm", 1),
        ("max_tokens", 11),
        ("scope", 1),
        ("network", "othernet"),
        ("lifetime_ms", 10**9),
        ("at_ms", 1),
    ],
)
async def test_a_quote_of_something_else_is_not_accepted(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        quote = resigned(Quote, message.quote.body, mesh.provider.key, **{field: value})
        return msgspec.structs.replace(message, quote=quote)

    twisted(monkeypatch, provider, twist)
    with pytest.raises(BadQuote) as raised:
        await mesh.asked()
    assert raised.value.param == field
    assert not mesh.payer.ledger.state.holds.open


async def test_a_quote_somebody_else_signed_is_not_accepted(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        return msgspec.structs.replace(message, quote=resigned(Quote, message.quote.body, SigningKey.generate()))

    twisted(monkeypatch, provider, twist)
    with pytest.raises(BadQuote, match="signature"):
        await mesh.asked()


async def test_an_offer_without_a_quote_is_not_accepted(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        return msgspec.structs.replace(message, quote=SignedBody(b"\x01", message.quote.signature))

    twisted(monkeypatch, provider, twist)
    with pytest.raises(BadQuote) as raised:
        await mesh.asked()
    assert raised.value.param == "quote"


async def test_a_model_whose_work_no_trade_can_state_is_not_accepted(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the payer could not sign for what it got, and it would count against its own breaker."""

    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        return msgspec.structs.replace(message, model=msgspec.structs.replace(message.model, active_parameters=1 << 62))

    twisted(monkeypatch, provider, twist)
    with pytest.raises(BadQuote) as raised:
        await mesh.asked()
    assert raised.value.param == "model"


@pytest.mark.parametrize("field", ["layers", "hidden", "parameters", "active_parameters"])
async def test_a_model_of_another_size_than_its_metadata_says_is_not_accepted(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """Work is counted from it: ten times the weights would be ten times the FLOP both sign."""
    size = ModelSize(CARD.layers, CARD.hidden, frozenset({(CARD.parameters, CARD.active_parameters)}))
    await (await mesh.asked(size=size)).close()

    def twist(message: Message) -> Message:
        if not isinstance(message, Offer):
            return message
        told = {field: 10 * getattr(message.model, field)}
        return msgspec.structs.replace(message, model=msgspec.structs.replace(message.model, **told))

    twisted(monkeypatch, provider, twist)
    with pytest.raises(BadQuote) as raised:
        await mesh.asked(size=size)
    assert raised.value.param == field


@pytest.mark.parametrize("good", [0, 4])
async def test_a_token_that_the_model_does_not_have_ends_the_session(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    class Few(Words):
        def decode(self, ids: tuple[int, ...]) -> bytes:
            if max(ids) >= good:
                raise TokenizerError("the model has no such token")
            return super().decode(ids)

    monkeypatch.setattr("tests.net.session.conftest.Words", Few)
    if good:
        text, settlement = await mesh.buy(10)
        assert text == "0 1 2 3 "
        assert settlement.reason is FinishReason.FAILED
    else:
        with pytest.raises(EngineFailed, match="no such token"):
            await mesh.buy(10)
    await mesh.quiet()
    assert mesh.provider.net <= (len(PROMPT) + good if good else 0)
    books = mesh.payer.ledger.books(mesh.payer.key.public_key)
    assert (books.held, books.breaker.errors) == (0, 0)


async def test_splitting_into_the_smallest_tokens_earns_two(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text in twice as many tokens: paid is its canonical count and the tolerance."""

    class Halves(Words):
        def decode(self, ids: tuple[int, ...]) -> bytes:
            return "".join("b " if number % 2 else "a" for number in ids).encode()

        def feed(self, data: bytes) -> int:
            self.count += data.count(b" ")
            return self.count

    monkeypatch.setattr("tests.net.session.conftest.Words", Halves)
    mesh.desk.engine.length = 40
    mesh.desk.engine.pieces = ["a", "b "] * 20
    text, settlement = await mesh.buy(40)
    assert text == "ab " * 20
    assert settlement.trade is not None
    assert settlement.trade.completion_tokens == 20 + 2


async def test_a_provider_that_never_settles_leaves_the_payer_owing_what_it_signed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        return None

    monkeypatch.setattr(Receivables, "settle", silent)
    monkeypatch.setattr(consumer, "IDLE_S", 0.2)
    _, settlement = await mesh.buy(10)
    assert (settlement.trade, mesh.payer.net) == (None, 0)
    books = mesh.payer.ledger.books(mesh.payer.key.public_key)
    assert (books.settled, books.held) == (13, 0)
    assert mesh.payer.ledger.balance(mesh.payer.key.public_key).net == 0


async def test_a_provider_that_dies_before_the_first_token_costs_nothing(mesh: Mesh) -> None:
    mesh.desk.engine.fail_after = 0
    with pytest.raises(EngineFailed):
        await mesh.buy(10)
    assert mesh.payer.ledger.books(mesh.payer.key.public_key).settled == 0
    assert not mesh.payer.ledger.state.holds.open


async def test_a_provider_that_dies_in_the_middle_is_paid_for_what_arrived(mesh: Mesh) -> None:
    mesh.desk.engine.fail_after = 6
    text, settlement = await mesh.buy(10)
    await mesh.quiet()
    assert text == "0 1 2 3 4 5 "
    assert settlement.reason is FinishReason.FAILED
    assert settlement.cost == mesh.provider.net == len(PROMPT) + 6


async def test_the_gossiped_hash_tells_no_yes_from_a_no(mesh: Mesh) -> None:
    """Whoever reads the record knows the answer to be one of two, and cannot say which (B12)."""
    yes, no = ((0,), b"0 "), ((1,), b"1 ")
    bought = await mesh.asked(1)
    async with await mesh.begun(bought) as session:
        assert [chunk.text async for chunk in session] == ["0 "]
    await bought.close()
    trade = session.settlement.trade
    assert trade is not None

    def hashed(secret: bytes, answer: tuple[tuple[int, ...], bytes]) -> bytes:
        running = RunningHash(secret)
        running.update(*answer)
        return running.digest()

    public = [getattr(record, field) for record in (trade, bought.offered.quote) for field in record.__struct_fields__]
    known = [bytes(32), *(value for value in public if isinstance(value, bytes) and len(value) == 32)]
    for answer in (yes, no):
        assert trade.running_hash not in {hashed(secret, answer) for secret in known}
    secret = bought.offered.secret
    assert hashed(secret, yes) == trade.running_hash, "the auditor, who is given the secret, can"
    assert hashed(secret, no) != trade.running_hash
    assert secret not in known
    again = await mesh.buy(1)
    assert again[1].trade is not None
    assert again[1].trade.running_hash != trade.running_hash, "nor from the same answer to somebody else"


# --- a payer cheats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 8])
async def test_a_payer_that_never_signs_gets_one_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.3)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=window) as mesh:
        mesh.desk.engine.length = 100
        twisted(monkeypatch, consumer, lambda message: None if isinstance(message, Payment) else message)
        text, _ = await mesh.buy(100)
        await mesh.quiet()
        got = len(text.split())
        print(f"window {window}: {got} tokens unpaid")
        assert got <= window
        assert mesh.provider.net == 0


@pytest.mark.parametrize(("known", "window"), [(False, 16), (True, 64)])
async def test_a_stranger_that_never_signs_gets_fewer_tokens_than_a_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool, window: int
) -> None:
    """At a tenth of a TRM a token, where the bound in TRM is none, by the built-in parameters."""
    monkeypatch.setattr(serving, "IDLE_S", 0.3)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    built_in = Parameters()
    k = {name: getattr(built_in, name) for name in ("voucher_tokens", "stranger_tokens", "voucher_trm")}
    async with opened_mesh(tmp_path, **k) as mesh:
        mesh.desk.engine.length, mesh.desk.known = 200, known
        mesh.desk.price = Price(MicroTrm(100_000), MicroTrm(100_000))
        honest, _ = await mesh.buy(200)
        assert len(honest.split()) == 200, "a payer takes itself for a stranger, and signs in time for either window"
        paid = mesh.provider.net
        twisted(monkeypatch, consumer, lambda message: None if isinstance(message, Payment) else message)
        text, _ = await mesh.buy(200)
        await mesh.quiet()
        assert len(text.split()) == window
        assert mesh.provider.net == paid > 0


@pytest.mark.parametrize(
    "lie",
    [
        {"price_out": 1, "amount": 4},
        {"prompt_tokens": 0, "amount": 5},
        {"model_digest": bytes(32)},
        {"completion_tokens": 1, "amount": 4},
        {"completion_tokens": 99, "amount": 102},
        {"running_hash": bytes(32)},
        {"amount": 1},
        {"session": 1},
        {"acceptance_hash": bytes(32)},
        {"at_ms": 1},
        {"flop": 1},
    ],
    ids=lambda lie: next(iter(lie)),
)
async def test_a_voucher_that_says_something_else_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    """From the third on it lies: the second is what is settled."""
    monkeypatch.setattr(serving, "IDLE_S", 0.5)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=4) as mesh:
        mesh.desk.engine.length = 40
        seen = 0

        def twist(message: Message) -> Message:
            nonlocal seen
            if not isinstance(message, Payment):
                return message
            seen += 1
            if seen < 3:
                return message
            return Payment(resigned(Trade, message.trade.body, mesh.payer.key, **lie))

        twisted(monkeypatch, consumer, twist)
        text, _ = await mesh.buy(40)
        await mesh.quiet()
        assert mesh.provider.net == len(PROMPT) + 4
        assert len(text.split()) <= 4 + 4


async def test_a_payer_that_never_signs_gets_one_window_of_what_was_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stop text had the engine join 200 tokens."""
    monkeypatch.setattr(serving, "IDLE_S", 0.3)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=10) as mesh:
        mesh.desk.engine.length = mesh.desk.engine.together = 200
        twisted(monkeypatch, consumer, lambda message: None if isinstance(message, Payment) else message)
        text, _ = await mesh.buy(200)
        await mesh.quiet()
        assert len(text.split()) <= 10
        assert mesh.provider.net == 0


@pytest.mark.parametrize("lie", ["another key", "a bit of the signature", "a bit of the body", "s + L"])
async def test_an_acceptance_that_its_payer_did_not_sign_is_refused_before_the_engine_begins(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """0 tokens, 0 TRM, and no claim is left; the same payer's own signature is taken afterwards."""

    def twist(message: Message) -> Message:
        if not isinstance(message, Accept):
            return message
        own = message.acceptance
        match lie:
            case "another key":
                return Accept(resigned(Acceptance, own.body, SigningKey.generate()))
            case "a bit of the signature":
                return Accept(SignedBody(own.body, flipped(own.signature)))
            case "a bit of the body":
                later = msgspec.structs.replace(decode(Acceptance, own.body), settled=1)
                return Accept(SignedBody(encode(later), own.signature))
            case _:
                return Accept(SignedBody(own.body, bent(own.signature)))

    with monkeypatch.context() as patched:
        twisted(patched, consumer, twist)
        with pytest.raises(EngineFailed) as failed:
            await mesh.buy(10)
    await mesh.quiet()
    assert isinstance(failed.value.__cause__, PeerRefused)
    assert failed.value.__cause__.data["refused"] == "invalid_signature"
    assert (mesh.desk.engine.opened, mesh.provider.net, mesh.provider.booked) == (0, 0, [])
    assert not mesh.provider.ledger.state.claims.open
    assert mesh.provider.ledger.state.claims.within_day(mesh.payer.key.public_key, mesh.provider.ledger.now()) == 0
    books = mesh.payer.ledger.books(mesh.payer.key.public_key)
    assert (books.settled, books.held, mesh.payer.net) == (0, 0, 0)
    _, settlement = await mesh.buy(10)
    assert settlement.trade is not None


async def test_a_provider_that_refuses_the_acceptance_and_says_why_broke_no_word(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, unwitnessed_daily_limit=20) as mesh:
        await mesh.buy(10)
        bought = await mesh.asked(10)
        with pytest.raises(EngineFailed, match="refused: one payer and one provider"):
            async with await mesh.begun(bought) as session:
                await anext(session)
        assert (bought.kept, bought.empty) == (None, False)
        await bought.close()


@pytest.mark.parametrize("window", [1, 4, 10])
@pytest.mark.parametrize("count", [lambda _: 1, lambda sent: max(1, sent // 2)], ids=["one", "half"])
async def test_a_payer_that_counts_too_few_gets_one_window_beyond_what_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, count: Callable[[int], int]
) -> None:
    """Its vouchers name the newest tokens, but count fewer: what it has not paid for is K, and shown."""
    monkeypatch.setattr(serving, "IDLE_S", 0.5)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=window) as mesh:
        mesh.desk.engine.length = 200
        sales: list[Sale] = []
        monkeypatch.setattr(mesh.service, "_sold", sales.append)

        def twist(message: Message) -> Message:
            if not isinstance(message, Payment):
                return message
            trade = decode(Trade, message.trade.body)
            few = count(trade.completion_tokens)
            lie = {"completion_tokens": few, "amount": len(PROMPT) + few, "flop": flop(CARD, len(PROMPT), few)}
            return Payment(resigned(Trade, message.trade.body, mesh.payer.key, **lie))

        twisted(monkeypatch, consumer, twist)
        text, _ = await mesh.buy(200)
        await mesh.quiet()
        (sale,) = sales
        print(f"window {window}: {sale.sent} tokens sent, {sale.vouched} paid for, {sale.unpaid} TRM unpaid")
        assert mesh.provider.net == len(PROMPT) + sale.vouched
        assert len(text.split()) <= sale.sent == sale.due < 200
        assert sale.unpaid == sale.sent - sale.vouched <= window


@pytest.mark.parametrize(
    ("price_out", "known", "tokens"),
    [
        (0, False, 16),
        (100_000, False, 16),
        (625_000, False, 16),
        (666_667, False, 14),
        (1_000_000, False, 10),
        (20_000_000, False, 1),
        (100_000, True, 64),
        (1_000_000, True, 64),
        (20_000_000, True, 50),
        (2_000_000_000, True, 1),
    ],
)
def test_k_is_money(price_out: int, known: bool, tokens: int) -> None:
    """A stranger's: 16 tokens, or what 10 TRM pay for if that is less. A guest's: 64 tokens, or what U pays for."""
    assert window(Parameters(), price_out, known=known) == tokens


@pytest.mark.parametrize(("known", "tokens"), [(False, 5), (True, 7)])
def test_k_is_what_the_network_file_says(known: bool, tokens: int) -> None:
    assert window(Parameters(voucher_tokens=7, stranger_tokens=5), 100_000, known=known) == tokens
    assert window(Parameters(voucher_tokens=7), 100_000, known=known) == 7, "a stranger's is never the larger one"


async def test_a_forged_voucher_pays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.5)
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=4) as mesh:

        def twist(message: Message) -> Message:
            if not isinstance(message, Payment):
                return message
            return Payment(resigned(Trade, message.trade.body, SigningKey.generate()))

        twisted(monkeypatch, consumer, twist)
        await mesh.buy(10)
        await mesh.quiet()
        assert mesh.provider.net == 0


@pytest.mark.parametrize(
    "lie",
    [{"ceiling": 10**6}, {"ceiling": len(PROMPT)}, {"scope": 1}, {"quote_hash": bytes(32)}, {"network": "othernet"}],
    ids=lambda lie: next(iter(lie)),
)
async def test_an_acceptance_that_says_something_else_is_refused(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    def twist(message: Message) -> Message:
        if not isinstance(message, Accept):
            return message
        return Accept(resigned(Acceptance, message.acceptance.body, mesh.payer.key, **lie))

    twisted(monkeypatch, consumer, twist)
    with pytest.raises(EngineFailed):
        await mesh.buy(10)
    assert not mesh.provider.ledger.state.claims.open
    assert mesh.desk.engine.opened == 0
    assert mesh.payer.ledger.books(mesh.payer.key.public_key).settled == 0


async def test_what_is_not_covered_is_not_served(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payer has 1 000 TRM and says it has promised 995 elsewhere."""

    def twist(message: Message) -> Message:
        if not isinstance(message, Accept):
            return message
        return Accept(resigned(Acceptance, message.acceptance.body, mesh.payer.key, settled=995))

    twisted(monkeypatch, consumer, twist)
    with pytest.raises(EngineFailed, match="covered"):
        await mesh.buy(10)
    assert mesh.desk.engine.opened == 0


async def test_more_than_u_a_day_is_not_served(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, unwitnessed_daily_limit=30) as mesh:
        assert (await mesh.buy(10))[1].cost == 13
        assert (await mesh.buy(10))[1].cost == 13
        with pytest.raises(EngineFailed, match="without witnesses"):
            await mesh.buy(10)


# --- the kill switch -------------------------------------------------------------------------------------------------


async def test_a_killed_payer_signs_nothing_more(mesh: Mesh) -> None:
    mesh.desk.engine.length, mesh.desk.engine.delay = 100, 0.005
    bought = await mesh.asked(100)
    async with await mesh.begun(bought) as session:
        async for chunk in session:
            if chunk.count == 5:
                await mesh.payer.ledger.set_kill(True, "test", "test")
    await bought.close()
    await mesh.quiet()
    assert session.settlement.reason is FinishReason.KILLED
    assert mesh.provider.net == 0


async def test_a_killed_provider_stops_and_is_paid_what_was_vouched(mesh: Mesh) -> None:
    mesh.desk.engine.length, mesh.desk.engine.delay = 1000, 0.002
    bought = await mesh.asked(900)
    async with await mesh.begun(bought) as session:
        async for chunk in session:
            if chunk.count == 100:
                await mesh.provider.ledger.set_kill(True, "test", "test")
    await bought.close()
    await mesh.quiet()
    assert 100 <= session.settlement.reading.completion_tokens < 300
    assert mesh.provider.net == session.settlement.cost


# --- a provider that takes its time ----------------------------------------------------------------------------------


async def virtual_time(tmp_path: Path, delay_s: float, *, settles: bool = True) -> "Stalled":
    """Buy from a provider whose engine takes so long for each token, and who would go on without end."""
    clock = VirtualClock()
    async with opened_mesh(tmp_path, clock) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.delay = 500, delay_s
        began, error, text, settlement = clock.monotonic(), None, "", None
        try:
            text, settlement = await mesh.buy(500)
        except EngineFailed as raised:
            error = raised
        took = clock.monotonic() - began
        if settles:
            async with asyncio.timeout(60):
                while mesh.service.running or mesh.provider.ledger.state.claims.open:
                    await asyncio.sleep(1)
        books = mesh.payer.ledger.books(mesh.payer.key.public_key)
        return Stalled(took, error, text, settlement, books.settled, books.held, mesh.provider.net)


@dataclass(frozen=True)
class Stalled:
    took_s: float
    error: EngineFailed | None
    text: str
    settlement: Settlement | None
    settled: int
    held: int
    earned: int


def test_a_provider_that_only_says_it_works_is_given_up(tmp_path: Path) -> None:
    """It says so twice a second, and no silence is ever long enough to leave it for."""
    found = run_virtually(virtual_time(tmp_path, 10_000.0))
    assert isinstance(found.error, ProviderStalled)
    assert "no first token within 60.15 s" in str(found.error)
    assert 60 <= found.took_s < 62
    assert (found.settled, found.held, found.earned) == (0, 0, 0)


@pytest.mark.parametrize("settles", [True, False], ids=["it settles", "it does not"])
def test_an_answer_that_drips_ends_with_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settles: bool
) -> None:
    """A token every 19 s keeps every silence short: after half an hour what arrived is paid, and nothing stays held."""
    monkeypatch.setattr(provider, "SESSION_S", 1e9)
    if not settles:
        monkeypatch.setattr(serving.Serving, "stop", lambda *_: None)
    found = run_virtually(virtual_time(tmp_path, 19.0, settles=settles))
    got = len(found.text.split())
    assert got == SESSION_S // 19
    assert found.settlement is not None and found.settlement.reason is FinishReason.FAILED
    assert SESSION_S <= found.took_s <= SESSION_S + (1 if settles else 21)
    assert (found.settled, found.held) == (len(PROMPT) + got, 0)
    assert found.earned == (len(PROMPT) + got if settles else 0)


async def test_that_it_works_is_no_word_after_the_first_piece(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def twist(message: Message) -> Message:
        nonlocal seen
        seen += isinstance(message, Piece)
        return Working(0) if seen == 5 else message

    twisted(monkeypatch, provider, twist)
    text, settlement = await mesh.buy(10)
    assert text == "0 1 2 3 "
    assert settlement.reason is FinishReason.FAILED
