"""Whoever cheats in a metered session gains no more than PROTOCOL B10 and B11 say, seen from outside.

Processes of one network: an honest seller and an honest buyer, a rogue (``tirami.testing.rogue``) that sells to the
one, and rogues that buy of the other. Elsewhere: who dies is killed in ``test_failover`` (a provider) and in
``tirami demo --two-nodes`` (a consumer); what is settled after 11 minutes and a year is in ``test_settled_late``; one
balance before ten providers in ``tests/soak/test_one_balance.py``; what a lie about totals takes back, where each of
two providers alone cannot see it, in ``test_taken_back``.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.rows.guesses import hashed, known_to_all, yes_and_no
from tests.rows.mesh import eventually
from tests.rows.rogues import K_TOKENS, K_TRM, MEANS, Heard, Town, ask, cheat_next, town
from tirami.core.errors import BadQuote, EngineFailed
from tirami.core.keys import sha256
from tirami.core.units import MICRO
from tirami.proto import Quote, Trade, decode, encode
from tirami.testing.rogue.provider import TRUE_PIECES

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
MOST = 24
TOLERANCE = 2
"""Tokens by which what is signed for may exceed the canonical ones (B10)."""
SPLIT = 3.5
"""Times as many ids as the model made, at least, for the attack to be the one that was measured."""
SILENCE_S = 20
U = 1_000
Figure = Callable[[str, object], None]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("adversaries")) as made:
        yield made


@pytest.fixture(scope="module")
def fair(found: Town) -> Heard:
    """An answer as it should be, of the false seller."""
    heard = found.bought("honest", MOST)
    assert (heard.reason, heard.tokens, heard.cost) == ("length", MOST, heard.worth(MOST))
    return heard


@dataclass
class Waits:
    """What takes the buyer's whole patience goes on while others are served."""

    before: int
    """Its balance."""
    late: Heard
    never: Heard
    stall: Future[tuple[Heard, float]]
    fade: Future[tuple[Heard, float]]


@pytest.fixture(scope="module")
def waits(found: Town, fair: Heard) -> Iterator[Waits]:
    before = found.buyer.balance
    never, late = found.bought("never", MOST), found.bought("late", MOST)

    def timed() -> tuple[Heard, float]:
        began = time.monotonic()
        return ask(found.buyer, MOST), time.monotonic() - began

    def silent(clients: ThreadPoolExecutor, cheat: str) -> Future[tuple[Heard, float]]:
        cheat_next(found.false_seller, cheat)
        heard = clients.submit(timed)
        eventually(lambda: any(lie["cheat"] == cheat for lie in found.false_seller.log_lines("cheating")))
        return heard

    with ThreadPoolExecutor(2) as clients:
        yield Waits(before, late, never, silent(clients, "stall"), silent(clients, "fade"))


@pytest.fixture(scope="module")
def fair_sale(found: Town, waits: Waits) -> Heard:
    """The same, to a false buyer, while the honest buyer waits for nothing."""
    heard = found.sold("honest", MOST)
    assert (heard.reason, heard.cost, heard.bill["owed_trm"]) == ("length", heard.worth(MOST), 0)
    return heard


def paid(found: Town, before: int) -> int:
    return before - found.buyer.balance


# --- a provider cheats -----------------------------------------------------------------------------------------------


@pytest.mark.row("L1-09")  # a quote that is not what was asked costs nothing
@pytest.mark.parametrize(
    ("cheat", "field"),
    [
        ("price", "price_out"),
        ("model", "model_digest"),
        ("prompt", "prompt_tokens"),
        ("template", "prompt_hash"),
        ("longer", "max_tokens"),
        ("expired", "at_ms"),
        pytest.param("quote-forged", "signature", marks=pytest.mark.row("L1-03")),
        pytest.param("quote-bent", "signature", marks=pytest.mark.row("L1-03")),
    ],
)
def test_a_false_quote_is_not_accepted(found: Town, cheat: str, field: str, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought(cheat)
    assert isinstance(heard.error, BadQuote)
    assert (heard.error.param, heard.text) == (field, "")
    found.at_rest(found.buyer)
    assert paid(found, before) == 0
    record_property("figure", f"{cheat}: 0 TRM paid, bound 0")


@pytest.mark.row("L1-09")  # a provider is paid for the honest pieces only
@pytest.mark.parametrize("cheat", ["count", "ids", "text", "hash"])
def test_what_does_not_add_up_ends_the_answer(found: Town, fair: Heard, cheat: str, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought(cheat, MOST)
    assert heard.reason == "provider_failed"
    assert fair.text.startswith(heard.text) and heard.pieces == TRUE_PIECES, "nothing unchecked is shown"
    assert heard.cost <= heard.worth(TRUE_PIECES)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    assert found.newest().trm_amount == heard.cost
    record_property("figure", f"{cheat}: {heard.cost} TRM paid, bound {heard.worth(TRUE_PIECES)}")


@pytest.mark.row("L1-09")  # splitting into the smallest tokens earns two tokens
def test_the_smallest_tokens_earn_two(found: Town, record_property: Figure) -> None:
    """The same text in some four times as many ids, which all decode to it (PROTOCOL: ×3.69)."""
    before = found.buyer.balance
    heard = found.bought("split", 48)
    claimed = found.false_seller.log_lines("splitting")[-1]
    assert claimed["claimed"] >= SPLIT * claimed["made"]
    canonical = found.bought("honest", claimed["made"])
    assert canonical.text == heard.text
    assert heard.tokens <= canonical.tokens + TOLERANCE
    assert heard.cost == heard.worth(heard.tokens)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost + canonical.cost
    record_property(
        "figure",
        f"split: {heard.tokens} of {claimed['claimed']} claimed tokens paid for {claimed['made']} made, "
        f"bound {canonical.tokens} + {TOLERANCE}",
    )


@pytest.mark.row("L1-09")  # nothing is paid above the ceiling
def test_more_than_was_asked_for_is_not_paid(found: Town, fair: Heard, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought("greedy", MOST)
    assert heard.reason == "provider_failed"
    assert heard.text == fair.text
    assert heard.cost <= fair.worth(MOST)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    record_property("figure", f"greedy: {heard.cost} TRM paid, bound {fair.worth(MOST)}: the ceiling")


@pytest.mark.row("L1-03")
@pytest.mark.parametrize("cheat", ["trade-forged", "trade-bent"])
def test_a_false_countersignature_is_none(found: Town, cheat: str, record_property: Figure) -> None:
    """What was signed for stays owed, until the rogue's own book tells the trade: it is paid once."""
    before = found.buyer.balance
    heard = found.bought(cheat, MOST)
    assert (heard.reason, heard.cost, heard.bill["trade_id"]) == ("length", heard.worth(MOST), None)
    assert heard.bill["owed_trm"] == heard.cost
    eventually(lambda: paid(found, before) == heard.cost)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    record_property("figure", f"{cheat}: {heard.cost} TRM paid, bound {heard.worth(MOST)}: the last voucher")


@pytest.mark.row("L1-03")
def test_an_older_voucher_and_then_the_newer_is_one_bill(found: Town, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought("older", MOST)
    assert (heard.reason, heard.cost) == ("length", heard.worth(MOST))

    def told() -> list[int]:
        trades = found.buyer.client.trades().trades
        session = next(trade.session for trade in trades if trade.id == heard.bill["trade_id"])
        return sorted(trade.trm_amount for trade in trades if trade.session == session)

    eventually(lambda: len(told()) == 2)
    found.at_rest(found.buyer)
    assert told()[0] < told()[1] == heard.cost == paid(found, before), "not their sum"
    record_property("figure", f"older: {heard.cost} TRM paid of vouchers of {told()} TRM, bound {heard.cost}")


# --- a third node guesses --------------------------------------------------------------------------------------------


@pytest.mark.row("L1-15")  # a record that all read tells nobody the answer
def test_nobody_else_tells_a_yes_from_a_no(found: Town, fair: Heard, record_property: Figure) -> None:
    """One token, of which a node that sold nothing and bought nothing knows the record, the model and the question."""
    answers = yes_and_no()
    bias = dict.fromkeys(map(str, answers), 100)
    heard = found.bought("audited", 1, prompt="Is the sky blue? Answer with yes or no.", logit_bias=bias)
    assert heard.tokens == 1 and heard.text.strip().lower() in ("yes", "no"), heard
    third, trade_id = found.seller, str(heard.bill["trade_id"])
    eventually(lambda: any(trade.id == trade_id for trade in third.client.trades().trades))
    record = third.client.record(trade_id)
    trade = decode(Trade, bytes.fromhex(record.body or ""))
    assert third.key not in (trade.payer, trade.provider)

    told = found.false_seller.log_lines("audited")[-1]
    secret, quote = bytes.fromhex(told["secret"]), decode(Quote, bytes.fromhex(told["quote"]))
    assert sha256(Quote.TAG, encode(quote)) == trade.quote_hash
    known = known_to_all(third, record, quote)
    assert secret not in known
    guesses = [(number, hashed(guess, number, text)) for number, text in answers.items() for guess in known]
    guesses += [(number, sha256(text)) for number, text in answers.items()]
    confirmed = [number for number, made in guesses if made == trade.running_hash]
    assert not confirmed
    audited = [text for number, text in answers.items() if hashed(secret, number, text) == trade.running_hash]
    assert [text.decode() for text in audited] == [heard.text], "who is given the secret knows"
    record_property(
        "figure", f"{len(confirmed)} of {len(guesses)} guesses confirmed, bound 0; with the secret 1 of {len(answers)}"
    )


# --- a consumer cheats -----------------------------------------------------------------------------------------------


def bound(fair_sale: Heard) -> int:
    """What a payer that stops can cost: the prompt's price and K (B11), TRM."""
    return fair_sale.worth(min(K_TOKENS, K_TRM * MICRO // fair_sale.bill["price_out_utrm"]))


@dataclass
class Books:
    """What the honest seller has by its own books, TRM."""

    sales: float
    lost: float
    earned: int

    @classmethod
    def of(cls, found: Town) -> "Books":
        seller = found.seller
        return cls(seller.metric("tirami_sales_total"), seller.metric("tirami_unpaid_trm_total"), seller.balance)


@pytest.mark.row("L1-09")  # a payer that stops signing costs the prompt and K
@pytest.mark.parametrize(
    ("cheat", "tokens"),
    [
        ("unvouched", 0),
        ("undercount", 5),
        pytest.param("replay", 5, marks=pytest.mark.row("L1-03")),
        pytest.param("reorder", 10, marks=pytest.mark.row("L1-03")),
        pytest.param("foreign", 0, marks=pytest.mark.row("L1-03")),
        pytest.param("forged", 0, marks=pytest.mark.row("L1-03")),
        pytest.param("bent", 0, marks=pytest.mark.row("L1-03")),
    ],
)
def test_a_false_voucher_ends_the_sale(
    found: Town, fair_sale: Heard, cheat: str, tokens: int, record_property: Figure
) -> None:
    """Paid is what good vouchers came for, in the right order; lost at most what ran ahead of them."""
    before, most = Books.of(found), bound(fair_sale)
    heard = found.sold(cheat, MOST, leave_after=K_TRM if cheat == "unvouched" else None)
    eventually(lambda: Books.of(found).sales > before.sales)
    found.at_rest(found.seller)
    after = Books.of(found)
    assert heard.pieces < MOST, "it was not served to the end"
    assert after.earned - before.earned == (fair_sale.worth(tokens) if tokens else 0)
    assert after.lost - before.lost <= most
    record_property("figure", f"{cheat}: {after.lost - before.lost:.0f} TRM lost, bound {most}: the prompt and K")


@pytest.mark.row("L1-09")  # an acceptance above quote or means is refused
@pytest.mark.parametrize(("cheat", "why", "most"), [("ceiling", "outside the quote", MOST), ("means", "covered", 900)])
def test_an_acceptance_that_promises_too_much_is_refused(
    found: Town, fair_sale: Heard, cheat: str, why: str, most: int, record_property: Figure
) -> None:
    before = Books.of(found)
    assert cheat == "ceiling" or fair_sale.worth(most) > MEANS
    heard = found.sold(cheat, most)
    assert isinstance(heard.error, EngineFailed) and why in heard.error.message
    found.at_rest(found.seller)
    assert Books.of(found) == before, "nothing was served"
    record_property("figure", f"{cheat}: 0 TRM lost, bound 0")


@pytest.mark.row("L1-03")
@pytest.mark.parametrize("cheat", ["accept-forged", "accept-flipped", "accept-bent"])
def test_an_acceptance_its_payer_did_not_sign_is_refused_before_the_engine_begins(
    found: Town, fair_sale: Heard, cheat: str, record_property: Figure
) -> None:
    before = Books.of(found)
    heard = found.sold(cheat, MOST)
    assert isinstance(heard.error, EngineFailed) and "signature of the payer does not verify" in heard.error.message
    assert (heard.text, heard.pieces) == ("", 0)
    found.at_rest(found.seller)
    assert Books.of(found) == before, "nothing was served, and no claim is left"
    record_property("figure", f"{cheat}: 0 tokens, 0 TRM lost, bound 0")


@pytest.mark.row("L1-05")
@pytest.mark.parametrize("cheat", ["totals", "hidden"])
def test_who_lies_about_its_totals_is_convicted(
    found: Town, fair_sale: Heard, cheat: str, record_property: Figure
) -> None:
    """It has signed for one answer, and says it has not; or it signs for one with a number below that.

    Of one provider, which knows both and whose payer has means for both: nothing is taken back.
    """
    rogue = found.false_buyer
    if cheat == "hidden":
        rogue = found.hider
        assert found.sold("honest", MOST, rogue).cost == fair_sale.cost
    assert rogue.key.hex() not in found.convicted(found.seller)
    before = Books.of(found)
    heard = found.sold(cheat, MOST, rogue)
    for member in found.honest:
        eventually(lambda member=member: rogue.key.hex() in found.convicted(member))  # type: ignore[misc]
    if heard.error is None:  # a seller that knows enough to prove it serves nothing
        eventually(lambda: Books.of(found).sales > before.sales)
    found.at_rest(found.seller)
    after = Books.of(found)
    lost = after.lost - before.lost
    assert lost <= (bound(fair_sale) if heard.error is None else 0) < U
    assert after.earned - before.earned + lost <= fair_sale.worth(heard.pieces)
    again = found.sold("honest", MOST, rogue)
    assert isinstance(again.error, EngineFailed) and "contradicts itself" in again.error.message
    assert Books.of(found) == after
    record_property("figure", f"{cheat}: {lost:.0f} TRM lost, bound {U}; convicted at both")


# --- a provider lets others wait -------------------------------------------------------------------------------------


@pytest.mark.row("L1-09")  # a provider that stalls after the acceptance costs time only
def test_silence_after_the_acceptance_costs_nothing(waits: Waits, record_property: Figure) -> None:
    heard, took_s = waits.stall.result()
    assert isinstance(heard.error, EngineFailed)
    assert heard.text == ""
    assert took_s < SILENCE_S + 5
    record_property("figure", f"stall: 0 TRM paid, bound 0; given up after {took_s:.1f} s, bound {SILENCE_S}")


@pytest.mark.row("L1-09")  # a provider that stalls in the middle is paid for what arrived
def test_silence_in_the_middle_is_paid_as_far_as_it_came(waits: Waits, fair: Heard, record_property: Figure) -> None:
    """Waited for is the next piece, and then the signature under what came."""
    heard, took_s = waits.fade.result()
    assert (heard.reason, heard.pieces) == ("provider_failed", TRUE_PIECES)
    assert heard.cost <= fair.worth(TRUE_PIECES)
    assert took_s < 2 * SILENCE_S + 5
    record_property("figure", f"fade: {heard.cost} TRM paid, bound {fair.worth(TRUE_PIECES)}; {took_s:.1f} s of 40")


@pytest.mark.row("L1-03")
def test_settled_late_is_paid_once_and_never_settled_is_only_owed(
    found: Town, waits: Waits, fair: Heard, record_property: Figure
) -> None:
    late, never, fade = waits.late, waits.never, waits.fade.result()[0]
    assert waits.stall.result()[0].cost == 0
    for heard in (late, never):
        assert (heard.reason, heard.bill["trade_id"]) == ("length", None)
        assert heard.bill["owed_trm"] == heard.cost == fair.cost
    eventually(lambda: paid(found, waits.before) >= late.cost + fade.cost)
    found.at_rest(found.buyer)
    assert paid(found, waits.before) == late.cost + fade.cost, "and nothing of what was never settled"
    record_property("figure", f"late: {late.cost} TRM paid, bound {late.cost}; never: 0 TRM paid, bound {never.cost}")
