"""What a payer puts on the wire for what it was asked over HTTP."""

import pytest

from tirami.net.session.quoted import wire_id


@pytest.mark.parametrize("length", [1, 63, 64])
def test_an_id_that_fits_stands_as_it_is(length: int) -> None:
    assert wire_id("r" * length) == "r" * length


@pytest.mark.parametrize("length", [65, 128])
def test_a_longer_one_fits_and_can_be_told_from_any_other(length: int) -> None:
    ids = {"r" * length, "r" * (length - 1) + "s", "s" + "r" * (length - 1)}
    wired = {wire_id(one) for one in ids}
    assert len(wired) == 3
    assert {len(one) for one in wired} == {64}
    assert wired == {wire_id(one) for one in ids}, "the same one when it is asked again"
    assert wire_id("r" * length).startswith("r" * 31)
