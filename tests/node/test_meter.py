"""The instruments: what they count, and that they forget."""

from typing import Any

import pytest

from tirami.core.keys import SigningKey
from tirami.core.units import Flop, TokenCount, Trm
from tirami.infer import CountedBy, FinishReason, Reading
from tirami.net.session import Sale
from tirami.node.meter import MODELS, NodeMeter


def reading(tokens: int, ttft_ms: float | None, wall_ms: float) -> Reading:
    return Reading(TokenCount(1), TokenCount(tokens), Flop(1), ttft_ms, wall_ms, 0, True, CountedBy.ENGINE)


def value(meter: NodeMeter, name: str, **labels: Any) -> float | None:
    return meter.registry.get_sample_value(f"tirami_{name}", labels)


def answered(meter: NodeMeter, model: str, reason: FinishReason, of: Reading, seconds: float) -> None:
    meter.made(model, of)
    meter.settled(model, reason, seconds)


def test_what_strangers_did_not_pay_is_counted() -> None:
    meter = NodeMeter()
    key = SigningKey.generate().public_key
    for unpaid, reason in ((0, FinishReason.STOP), (12, FinishReason.CANCELLED)):
        of = reading(101, 0.0, 2000.0)
        meter.sold(Sale("m", key, reason, of, TokenCount(103), TokenCount(101), TokenCount(101 - unpaid), Trm(unpaid)))
    meter.sold(Sale("m", key, FinishReason.FAILED, None, *3 * [TokenCount(0)], Trm(0)))
    assert value(meter, "sales_total") == 3
    assert value(meter, "unpaid_tokens_total") == value(meter, "unpaid_trm_total") == 12
    assert meter.speed("m") == 50.0


def test_an_answer_is_measured_once() -> None:
    meter = NodeMeter()
    meter.queued("m", 0.25)
    answered(meter, "m", FinishReason.STOP, reading(101, 500.0, 2500.0), 0.004)
    assert value(meter, "queue_seconds_sum", model="m") == 0.25
    assert value(meter, "ttft_seconds_sum", model="m") == 0.5
    assert value(meter, "tokens_per_second_sum", model="m") == 50.0, "100 tokens after the first in two seconds"
    assert value(meter, "settle_seconds_sum", model="m") == 0.004
    assert value(meter, "answers_total", model="m", reason="stop") == 1
    assert meter.speed("m") == 50.0


def test_the_running_speed_follows_slowly() -> None:
    meter = NodeMeter()
    assert meter.speed("m") is None
    for wall in (1000.0, 500.0):
        answered(meter, "m", FinishReason.STOP, reading(11, 0.0, wall), 0.0)
    assert meter.speed("m") == pytest.approx(10 + 0.2 * (20 - 10))


@pytest.mark.parametrize("of", [reading(0, None, 0.0), reading(0, None, 30.0)])
def test_an_answer_without_a_token_has_no_speed(of: Reading) -> None:
    meter = NodeMeter()
    answered(meter, "m", FinishReason.CANCELLED, of, 0.001)
    assert value(meter, "ttft_seconds_count", model="m") is None
    assert value(meter, "settle_seconds_count", model="m") == 1
    assert value(meter, "answers_total", model="m", reason="cancelled") == 1


@pytest.mark.parametrize("of", [reading(1, 5.0, 5.0), reading(1, 5.0, 9.0), reading(7, 5.0, 5.0)])
def test_one_token_or_no_time_make_no_speed(of: Reading) -> None:
    meter = NodeMeter()
    answered(meter, "m", FinishReason.STOP, of, 0.001)
    assert value(meter, "ttft_seconds_count", model="m") == 1
    assert meter.speed("m") is None


def test_series_of_models_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    meter = NodeMeter()
    for number in range(MODELS):
        answered(meter, f"m{number}", FinishReason.STOP, reading(5, 1.0, 2.0), 0.001)
    meter.queued("m0", 0.0)
    for number in range(1000):
        answered(meter, f"new{number}", FinishReason.LENGTH, reading(5, 1.0, 2.0), 0.001)
        meter.queued("m0", 0.0)
    models = {s.labels["model"] for f in meter.registry.collect() for s in f.samples if "model" in s.labels}
    assert len(models) == MODELS
    assert "m0" in models
    assert "m1" not in models
    assert meter.speed("m1") is None


def test_requests_are_counted_by_class() -> None:
    meter = NodeMeter()
    for status in (200, 201, 404, 503, 0):
        meter.requested("status", status)
    counts = {c: value(meter, "http_requests_total", operation="status", status=c) for c in ("2xx", "4xx", "5xx")}
    assert counts == {"2xx": 2, "4xx": 1, "5xx": 1}
    assert value(meter, "http_requests_total", operation="status", status="aborted") == 1


def test_two_nodes_in_one_process_share_nothing() -> None:
    one, other = NodeMeter(), NodeMeter()
    one.requested("status", 200)
    assert value(other, "http_requests_total", operation="status", status="2xx") is None
