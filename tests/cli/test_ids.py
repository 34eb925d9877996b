"""Ids by their beginning."""

import pytest

from tirami.cli.ids import whole
from tirami.core.errors import AccountNotFound

ONE, TWO = "ab" * 32, "ac" * 32


@pytest.mark.parametrize("start", ["ab", "AB", " ab ", "tirami_ab", "forge_ab", ONE, f"tirami_{ONE}", ONE.upper()])
def test_a_start_that_only_one_id_has_is_that_id(start: str) -> None:
    assert whole(start, [ONE, TWO], AccountNotFound) == ONE


@pytest.mark.parametrize("start", ["", " ", "tirami_", "a", "b", "abc"])
def test_none_or_several_are_refused(start: str) -> None:
    with pytest.raises(AccountNotFound):
        whole(start, [ONE, TWO], AccountNotFound)


def test_a_full_id_is_asked_for_even_when_it_is_not_listed() -> None:
    assert whole("00" * 32, [ONE], AccountNotFound) == "00" * 32
