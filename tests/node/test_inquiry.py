"""Which offers fit a request, and what it is told when none does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tests.market.scripted import CARD
from tirami.core.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, NoModel
from tirami.core.keys import SigningKey
from tirami.core.units import MICRO, MicroTrm, Ppm, TokenCount, Trm
from tirami.infer import Prompt, Sampling
from tirami.ledger import NETWORK, Payer, Price
from tirami.market import Candidate, Provider
from tirami.market.registry import KnownPeer
from tirami.net.session import IDLE_S, IMPATIENT_S
from tirami.node.chat import ChatCall
from tirami.node.mesh.inquiry import CALLING_S, CALLS, TRIES, Inquiry
from tirami.proto import Offering, Signal

KEY = SigningKey.generate()
CALL = ChatCall(Payer(KEY.public_key, KEY, NETWORK), "m", (), None, 1.0, 1.0, 0, None, "r")
HERE = replace(CALL, here=replace(CARD, context_length=60))
"""Of a model of this node, too."""


def offer(*, trm: int = 1, context: int = 100, tokenizer: bytes = CARD.tokenizer_digest) -> Provider:
    """``trm`` a token, of the prompt and of the answer."""
    price = Price(MicroTrm(trm * MICRO), MicroTrm(trm * MICRO))
    offering = Offering("m", bytes(32), tokenizer, context, 1, 1, 1, 1, "none", price.prompt, price.completion)
    signal = Signal("testnet", KEY.public_key, MICRO, 1, 1, 0, (), (offering,), 1, 0)
    candidate = Candidate(KEY.public_key, price, MicroTrm(MICRO), Ppm(0))
    return Provider(KnownPeer(signal, 0), offering, candidate)  # type: ignore[arg-type]


def inquiry(
    max_tokens: int,
    most: int = 0,
    prompt: int | None = None,
    found: Sequence[Provider] = (),
    connected: Callable[[Provider], bool] = lambda _: True,
    call: ChatCall = CALL,
) -> Inquiry:
    made = Inquiry(call, Sampling(max_tokens=max_tokens, seed=0), Trm(most), iter(found), connected)
    if prompt is not None:
        made.prompts[CARD.tokenizer_digest] = Prompt(tuple(range(prompt)), TokenCount(prompt), True, "", ())
    return made


def test_who_is_estranged_by_its_clock_is_not_said_to_serve_nothing() -> None:
    for model, error in ((None, NoModel), ("m", ModelNotFound)):
        call = replace(CALL, model=model)
        for estranged in (0, 2):
            made = Inquiry(call, Sampling(max_tokens=1, seed=0), Trm(0), iter(()), lambda _: True, estranged)
            told = made.refusal()
            assert isinstance(told, error)
            assert ("those of 2 differ by more than an hour" in told.message) is bool(estranged)


@pytest.mark.parametrize(
    ("max_tokens", "prompt", "fits"),
    [(90, 10, True), (91, 10, False), (0, 99, True), (0, 100, False), (99, None, True)],
)
def test_prompt_and_answer_fit_the_context(max_tokens: int, prompt: int | None, fits: bool) -> None:
    assert inquiry(max_tokens, prompt=prompt).fits(offer(context=100)) is fits


@pytest.mark.parametrize(
    ("max_tokens", "most", "prompt", "fits"),
    [(10, 40, 10, True), (10, 39, 10, False), (0, 22, 10, True), (0, 21, 10, False), (9, 0, 9, True)],
)
def test_the_answer_costs_no_more_than_it_may(max_tokens: int, most: int, prompt: int | None, fits: bool) -> None:
    """At 2 TRM a token; without a length at least one has to be paid for."""
    assert inquiry(max_tokens, most, prompt).fits(offer(trm=2)) is fits


def test_a_prompt_is_as_long_as_the_providers_own_tokenizer_says() -> None:
    asked = inquiry(10, prompt=95)
    assert not asked.fits(offer(context=100))
    assert asked.fits(offer(context=100, tokenizer=b"t" * 32))


def test_those_that_fit_come_in_order_and_nobody_is_looked_for_before_its_turn() -> None:
    good = [offer(context=100 + number) for number in range(3)]
    looked: list[int] = []

    def found() -> Iterator[Provider]:
        for number, provider in enumerate([good[0], offer(context=1), good[1], offer(context=2), good[2]]):
            looked.append(number)
            yield provider

    asked = inquiry(10, prompt=10)
    asked._found = found()
    assert asked.next() is good[0] and looked == [0]
    assert asked.has_more() and asked.has_more() and looked == [0, 1, 2]
    assert [asked.next(), asked.next(), asked.next()] == [good[1], good[2], None]
    assert not asked.has_more()
    assert [misfit.offering.context_length for misfit in asked.misfits] == [1, 2]


def test_one_ahead_is_judged_again_when_the_prompt_is_known() -> None:
    asked = inquiry(10, found=[offer(context=20), offer(context=20), offer(context=40)])
    asked.next()
    assert asked.has_more()
    asked.prompts[CARD.tokenizer_digest] = Prompt(tuple(range(20)), TokenCount(20), True, "", ())
    assert asked.has_more()
    last = asked.next()
    assert last is not None and last.offering.context_length == 40
    assert len(asked.misfits) == 1


def test_three_are_asked_and_no_more() -> None:
    asked = inquiry(10, found=[offer() for _ in range(5)])
    for _ in range(TRIES):
        assert asked.next() is not None
        assert asked.patience_s() == (IMPATIENT_S if asked.asked < TRIES - 1 else IDLE_S)
        asked.asked += 1
    assert asked.next() is None and not asked.has_more()


@pytest.mark.parametrize("seconds", [0.1, CALLING_S / 2])
def test_calls_in_vain_use_up_no_tries_and_have_an_end_then_those_connected_are_asked(seconds: float) -> None:
    """The end is a number, or a time; whoever may not be called any more is none that does not fit."""
    made_up, there = [offer(context=99) for _ in range(20)], [offer(context=100 + n) for n in range(TRIES)]
    asked = inquiry(10, found=[*made_up, *there], connected=there.__contains__)
    calls = 0
    while (provider := asked.next()) is not None and provider not in there:
        assert asked.call_patience_s() == IMPATIENT_S
        asked.called_in_vain(seconds)
        calls += 1
    assert calls == (CALLS if seconds < 1 else 2) and asked.begun
    for each in there:
        assert provider is each
        asked.asked += 1
        provider = asked.next()
    assert provider is None and not asked.misfits


def test_the_last_one_is_called_for_longer() -> None:
    asked = inquiry(10, found=[offer(), offer(context=1)], connected=lambda _: False)
    asked.next()
    assert asked.call_patience_s() == IDLE_S


def test_when_every_context_is_too_small_the_largest_is_told() -> None:
    offers = [offer(context=50), offer(context=105), offer(context=70)]
    for asked, param in ((inquiry(90, 0, 20, offers), "max_tokens"), (inquiry(0, 0, 105, offers), "messages")):
        assert asked.next() is None
        error = asked.refusal()
        assert isinstance(error, ContextLengthExceeded)
        assert (error.param, error.data) == (param, {"largest_context": 105})
        assert "105" in error.message and str(asked.prompts[CARD.tokenizer_digest].count) in error.message


def test_when_every_price_is_too_high_the_cheapest_is_told() -> None:
    """One that is cheaper and too small is no offer."""
    offers = [offer(trm=4), offer(trm=3), offer(trm=1, context=10)]
    asked = inquiry(10, 5, 10, offers), inquiry(0, 5, 10, offers)
    for one, param, costs in zip(asked, ("max_tokens", "messages"), (60, 33), strict=True):
        assert one.next() is None
        error = one.refusal()
        assert isinstance(error, InvalidRequest)
        assert (error.param, error.data) == (param, {"cheapest_trm": costs, "max_trm": 5})
        assert "mesh.max_trm is 5" in error.message and f"{costs} TRM" in error.message


@pytest.mark.parametrize(
    ("max_tokens", "most", "funds", "elsewhere", "here"),
    [(0, 0, None, 90, 50), (0, 60, None, 50, 50), (0, 30, None, 20, 50), (0, 0, 40, 30, 30), (7, 1, 1, 7, 7)],
    ids=["context", "most", "less than most", "funds", "asked for"],
)
def test_a_length_is_what_there_is_room_and_money_for_or_would_be_here(
    max_tokens: int, most: int, funds: int | None, elsewhere: int, here: int
) -> None:
    """Ten prompt tokens at 1 TRM, a context of 100 there and 60 here."""
    bound = None if funds is None else Trm(funds)
    for call, tokens in ((CALL, elsewhere), (HERE, here)):
        asked = inquiry(max_tokens, most, 10, call=call)
        assert asked.bounded(offer(), bound).max_tokens == tokens


def test_an_answer_of_a_known_length_fits_or_not() -> None:
    asked = inquiry(0, 50, 10)
    assert asked.fits(offer(), 40) and not asked.fits(offer(), 41), "it costs more than 50 TRM"
    assert asked.fits(offer(context=50), 40) and not asked.fits(offer(context=49), 40)


def test_who_cuts_the_model_that_is_here_otherwise_has_another_file() -> None:
    true = offer()
    asked = inquiry(10, found=[offer(tokenizer=b"t" * 32), true], call=HERE)
    assert asked.next() is true and not asked.misfits


def test_nobody_is_waited_for_long_who_is_asked_in_place_of_this_node() -> None:
    asked = inquiry(10, found=[offer()], call=HERE)
    assert asked.next() is not None and not asked.has_more()
    assert asked.patience_s() == asked.call_patience_s() == IMPATIENT_S
