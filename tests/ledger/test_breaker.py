"""The circuit breaker: five errors, five minutes, one probe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import UnixMs
from tirami.ledger import Breaker, Circuit, HoldCaptured, HoldFailed, HoldOpened, HoldReleased, Holds, Trip
from tirami.ledger.breaker import MAX_ERRORS, OPEN_MS

PAYER = b"p" * 32


def broken(at_ms: int = 1_000) -> Breaker:
    breaker = Breaker()
    for number in range(MAX_ERRORS):
        breaker.failed(bytes([number]), at_ms, at_ms)
    return breaker


def test_the_fifth_consecutive_error_opens_it() -> None:
    breaker = Breaker()
    for number in range(MAX_ERRORS - 1):
        breaker.failed(bytes([number]), 1_000, 1_000)
        assert breaker.circuit(1_000) is Circuit.CLOSED
    breaker.failed(b"fifth", 1_000, 1_000)
    assert (breaker.circuit(1_000), breaker.cause) == (Circuit.OPEN, Trip.ERRORS)
    assert not breaker.lets_through(1_000)


def test_a_breakdown_under_many_answers_is_one_error() -> None:
    breaker = Breaker()
    for number in range(3 * MAX_ERRORS):
        breaker.failed(bytes([number]), 1_000, 2_000 + number)
    assert (breaker.errors, breaker.circuit(3_000)) == (1, Circuit.CLOSED)


def test_a_paid_spend_between_errors_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for number in range(MAX_ERRORS - 1):
            breaker.failed(bytes([number]), 1_000, 1_000)
        breaker.released(b"left")
        assert breaker.errors == MAX_ERRORS - 1, "a client that leaves proves nothing"
        breaker.paid(b"paid")
    assert breaker.circuit(1_000) is Circuit.CLOSED


@pytest.mark.parametrize(
    ("later", "circuit"), [(0, Circuit.OPEN), (OPEN_MS - 1, Circuit.OPEN), (OPEN_MS, Circuit.HALF_OPEN)]
)
def test_it_is_open_for_five_minutes_to_the_millisecond(later: int, circuit: Circuit) -> None:
    breaker = broken(1_000)
    assert breaker.circuit(1_000 + later) is circuit
    assert breaker.lets_through(1_000 + later) == (circuit is Circuit.HALF_OPEN)


def test_one_probe_at_a_time() -> None:
    breaker, now = broken(), 1_000 + OPEN_MS
    breaker.admitted(b"probe", now)
    assert not breaker.lets_through(now)
    breaker.released(b"probe")
    assert breaker.lets_through(now), "its client left: somebody else may try"
    breaker.admitted(b"second", now)
    breaker.failed(b"second", now, now)
    assert breaker.circuit(now + OPEN_MS - 1) is Circuit.OPEN
    breaker.admitted(b"third", now + OPEN_MS)
    breaker.paid(b"third")
    assert breaker == Breaker()


def test_what_was_admitted_before_the_trip_decides_nothing_after_it() -> None:
    breaker = broken()
    breaker.paid(b"early")
    assert breaker.circuit(2_000) is Circuit.OPEN
    breaker.failed(b"early too", 1_000, 200_000)
    assert breaker.until_ms == 1_000 + OPEN_MS, "a late error does not prolong it"
    breaker.admitted(b"probe", 1_000 + OPEN_MS)
    breaker.failed(b"early too", 1_000, 1_000 + OPEN_MS)
    breaker.paid(b"early")
    assert breaker.circuit(1_000 + OPEN_MS) is Circuit.HALF_OPEN


def opened(number: int) -> HoldOpened:
    return HoldOpened(number.to_bytes(16), PAYER, 0, 0, number, 10, "inference", 10**15, "req", b"", b"", b"", b"")


def test_a_session_is_one_error_however_often_it_fails_and_none_when_paid_in_part() -> None:
    holds = Holds()
    for number in range(1, MAX_ERRORS + 1):
        holds.apply(opened(number), UnixMs(0))
        breaker = holds.books(PAYER).breaker
        for _ in range(3):
            holds.apply(HoldFailed(number.to_bytes(16)), UnixMs(0))
        assert breaker.errors == number
        end = HoldCaptured(number.to_bytes(16), b"", 3) if number % 2 else HoldReleased(number.to_bytes(16), "failed")
        holds.apply(end, UnixMs(0))
        assert breaker.errors == number, "what was delivered before the error is paid, and is no success"
    assert breaker.circuit(0) is Circuit.OPEN


Steps = st.lists(st.tuples(st.sampled_from(["ask", "paid", "failed", "released"]), st.integers(0, 200_000)))


@given(Steps)
def test_never_two_probes_and_never_a_spend_while_open(steps: list[tuple[str, int]]) -> None:
    breaker, now, running, count = Breaker(), 0, list[bytes](), 0
    for step, pause in steps:
        now += pause
        if step == "ask" and breaker.lets_through(now):
            count += 1
            assert breaker.circuit(now) is not Circuit.OPEN
            assert not (breaker.circuit(now) is Circuit.HALF_OPEN and breaker.probe in running)
            breaker.admitted(str(count).encode(), now)
            running.append(str(count).encode())
        elif step != "ask" and running:
            spend = running.pop(0)
            match step:
                case "paid":
                    breaker.paid(spend)
                case "failed":
                    breaker.failed(spend, now, now)
                case _:
                    breaker.released(spend)
            assert breaker.probe != spend
        assert 0 <= breaker.errors <= MAX_ERRORS
