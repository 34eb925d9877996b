"""The last hundred denials, of all and of each."""

from tirami.core.units import UnixMs
from tirami.ledger import Denial, Denials


def denial(number: int, account: bytes) -> Denial:
    return Denial(UnixMs(number), account, number, "budget_exceeded", "no")


def test_the_last_hundred_newest_first() -> None:
    denials = Denials()
    for number in range(250):
        denials.note(denial(number, b"a"))
    assert [entry.amount for entry in denials.latest()] == list(range(249, 149, -1))
    assert denials.latest(b"a") == denials.latest()
    assert denials.latest(b"b") == []


def test_a_crowd_pushes_out_nobody_elses() -> None:
    denials = Denials()
    denials.note(denial(0, b"quiet"))
    for number in range(1, 500):
        denials.note(denial(number, b"loud"))
    assert [entry.amount for entry in denials.latest(b"quiet")] == [0]
    assert len(denials.latest(b"loud")) == len(denials.latest()) == 100
