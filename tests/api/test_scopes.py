"""Scopes: their order and their names on the wire."""

import pytest

from tirami.api import Scope


def test_a_higher_scope_satisfies_a_lower_one() -> None:
    order = [Scope.PUBLIC, Scope.READ_ONLY, Scope.INFERENCE, Scope.ECONOMY, Scope.ADMIN]
    assert sorted(Scope) == order
    assert [scope.wire for scope in order] == ["public", "read_only", "inference", "economy", "admin"]


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.PUBLIC])
def test_wire_names_are_read_back(scope: Scope) -> None:
    assert Scope.parse(scope.wire) is scope


def test_read_only_has_an_older_spelling() -> None:
    assert Scope.parse("readonly") is Scope.READ_ONLY


@pytest.mark.parametrize("text", ["public", "", "ADMIN", "Admin", "root", " admin", "admin ", "4"])
def test_no_token_is_public_and_names_are_exact(text: str) -> None:
    with pytest.raises(ValueError, match="scope must be one of"):
        Scope.parse(text)
