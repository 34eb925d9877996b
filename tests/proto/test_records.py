"""The order of fields is law: changing it changes every signature there is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.proto import RECORDS, Open, amount_due

FIELDS = {
    "Quote": "network scope provider payer nonce model_digest tokenizer_digest prompt_tokens prompt_hash max_tokens "
    "seed temperature_ppm top_p_ppm top_k price_in price_out lifetime_ms log_size log_root at_ms",
    "Acceptance": "network scope payer provider incarnation number settled open quote_hash ceiling at_ms",
    "Trade": "network scope provider payer incarnation session quote_hash acceptance_hash model_digest "
    "tokenizer_digest price_in price_out prompt_tokens completion_tokens amount flop running_hash at_ms",
    "Grant": "network issuer incarnation number settled to limit due_ms period at_ms",
    "Transfer": "network scope payer to incarnation number settled open amount at_ms",
    "Head": "network network_hash log_id node size root at_ms",
    "Statement": "network network_hash log_id node account since_ms until_ms first end trades volume root rows_hash "
    "at_ms",
}


def test_fields_and_tags() -> None:
    assert {cls.__name__: " ".join(cls.__struct_fields__) for cls in RECORDS} == FIELDS
    assert {cls.__name__: cls.TAG for cls in RECORDS} == {name: f"tirami/1/{name.lower()}".encode() for name in FIELDS}
    assert Open.__struct_fields__ == ("number", "ceiling")


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_records_are_frozen_arrays_without_defaults(cls: type[msgspec.Struct]) -> None:
    config = cls.__struct_config__
    assert (config.frozen, config.array_like, config.forbid_unknown_fields, config.tag) == (True, True, True, None)
    assert cls.__struct_defaults__ == ()


@pytest.mark.parametrize(
    ("price_in", "price_out", "prompt", "completion", "amount"),
    [
        (0, 1_000_000, 100, 9, 9),
        (250_000, 1_000_000, 4, 9, 10),
        (250_000, 1_000_000, 5, 9, 11),
        (1, 1, 1, 1, 1),
        (0, 0, 1_000, 1_000, 1),
        (250_000, 1_000_000, 1_000, 0, 0),
        (1_500_000, 6_000_000, 2**40, 2**40, 7_500_000 * 2**40 // 1_000_000),
    ],
)
def test_amount_due(price_in: int, price_out: int, prompt: int, completion: int, amount: int) -> None:
    assert amount_due(price_in, price_out, prompt, completion) == amount


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**32), st.integers(1, 2**32))
def test_amounts_cover_the_price_and_never_fall(price_in: int, price_out: int, prompt: int, completion: int) -> None:
    due = amount_due(price_in, price_out, prompt, completion)
    exact = price_in * prompt + price_out * completion
    assert due >= 1
    assert due * 1_000_000 >= exact
    assert due == 1 or (due - 1) * 1_000_000 < exact
    assert amount_due(price_in, price_out, prompt, completion + 1) >= due
