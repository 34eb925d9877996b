"""Ctrl-C where Python would lose it."""

import signal

import pytest

from tirami.cli.interrupts import interrupts


class Dying:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_destructor_is_seen_by_the_next_check() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts() as check:
        check()
        Dying()
        check()


def test_one_that_is_not_lost_is_raised_where_it_comes() -> None:
    with interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_afterwards_everything_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as check:
        assert signal.getsignal(signal.SIGINT) is not before
        check()
    assert signal.getsignal(signal.SIGINT) is before
