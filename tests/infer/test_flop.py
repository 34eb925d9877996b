"""The closed form against the sum it stands for, and against models whose makers publish their size."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infer.ggufs import write_header
from tests.market.scripted import CARD
from tirami.infer import Header, flop, memory_bytes, read_card, resolve
from tirami.infer.card import count_parameters
from tirami.infer.memory import kv_bytes_per_token

counts = st.integers(0, 400)


@given(st.integers(0, 10**12), st.integers(0, 200), st.integers(0, 20_000), counts, counts)
def test_the_closed_form_is_the_sum(active: int, layers: int, hidden: int, prompt: int, completion: int) -> None:
    card = replace(CARD, active_parameters=active, layers=layers, hidden=hidden)
    positions = range(1, prompt + completion + 1)
    assert flop(card, prompt, completion) == sum(2 * active + 4 * layers * hidden * c for c in positions)


@given(counts, counts)
def test_it_does_not_matter_which_side_a_token_is_on(prompt: int, completion: int) -> None:
    assert flop(CARD, prompt, completion) == flop(CARD, completion, prompt)


def test_smollm2_by_hand() -> None:
    card = replace(CARD, active_parameters=134_515_008, layers=30, hidden=576)
    assert flop(card, 0, 0) == 0
    assert flop(card, 1, 0) == 2 * 134_515_008 + 4 * 30 * 576
    assert flop(card, 10, 10) == 5_380_600_320 + 14_515_200


def test_experts_that_sleep_cost_nothing() -> None:
    card = replace(CARD, parameters=47 * 10**9, active_parameters=13 * 10**9, layers=0)
    assert flop(card, 1, 0) == 26 * 10**9


@dataclass(frozen=True)
class Shape:
    """A Qwen2.5 as its configuration describes it, and the number of parameters its maker publishes."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    tied: bool
    published: int

    @property
    def kv_width(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.hidden, self.vocabulary),
            "output_norm.weight": (self.hidden,),
        }
        if not self.tied:
            found["output.weight"] = (self.hidden, self.vocabulary)
        for i in range(self.layers):
            block = {
                "attn_norm.weight": (self.hidden,),
                "attn_q.weight": (self.hidden, self.hidden),
                "attn_q.bias": (self.hidden,),
                "attn_k.weight": (self.hidden, self.kv_width),
                "attn_k.bias": (self.kv_width,),
                "attn_v.weight": (self.hidden, self.kv_width),
                "attn_v.bias": (self.kv_width,),
                "attn_output.weight": (self.hidden, self.hidden),
                "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.hidden, self.feed_forward),
                "ffn_up.weight": (self.hidden, self.feed_forward),
                "ffn_down.weight": (self.feed_forward, self.hidden),
            }
            found |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
        return found

    def header(self, path: Path) -> Header:
        numbers = {
            "block_count": self.layers,
            "embedding_length": self.hidden,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "vocab_size": self.vocabulary,
        }
        return Header.read(write_header(path, architecture="qwen2", numbers=numbers, shapes=self.tensors()))


QWEN = {
    "qwen2.5:0.5b": Shape(896, 24, 14, 2, 4_864, 151_936, True, 494_032_768),
    "qwen2.5:1.5b": Shape(1_536, 28, 12, 2, 8_960, 151_936, True, 1_543_714_304),
    "qwen2.5:3b": Shape(2_048, 36, 16, 2, 11_008, 151_936, True, 3_085_938_688),
    "qwen2.5:7b": Shape(3_584, 28, 28, 4, 18_944, 152_064, False, 7_615_616_512),
    "qwen2.5:14b": Shape(5_120, 48, 40, 8, 13_824, 152_064, False, 14_770_033_664),
    "qwen2.5:32b": Shape(5_120, 64, 40, 8, 27_648, 152_064, False, 32_763_876_352),
}


def expected(active: int, layers: int, width: int, tokens: int) -> int:
    """2·N a token, and in each layer 2·width for the products with keys and as many for the sum of values."""
    return sum(2 * active + layers * 4 * width * position for position in range(1, tokens + 1))


@pytest.mark.row("GEN-04", part="the tensor lists of the models at hand and of the published Qwen2.5 shapes")
@pytest.mark.parametrize("name", QWEN)
@pytest.mark.parametrize("tokens", [1, 100, 2_000])
def test_a_published_shape_costs_what_its_size_says(tmp_path: Path, name: str, tokens: int) -> None:
    shape = QWEN[name]
    parameters, active = count_parameters(shape.header(tmp_path / "model.gguf"))
    card = replace(CARD, parameters=parameters, active_parameters=active, layers=shape.layers, hidden=shape.hidden)
    wanted = expected(shape.published, shape.layers, shape.heads * (shape.hidden // shape.heads), tokens)
    assert flop(card, 0, tokens) == pytest.approx(wanted, rel=0.05)
    assert parameters == active == shape.published, "not only near it"


@pytest.mark.row("GEN-04", part="the tensor lists of the models at hand and of the published Qwen2.5 shapes")
@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "published", "layers", "width"),
    [("smollm2:135m", 134_515_008, 30, 9 * 64), ("gemma3:270m", 268_098_176, 18, 4 * 256)],
)
def test_a_model_at_hand_costs_what_its_size_says(name: str, published: int, layers: int, width: int) -> None:
    """``width`` is that of all heads together, which in gemma3 is not the hidden width."""
    card = read_card(resolve(name).path, name, 2048)
    for tokens in (1, 100, 1_000):
        assert flop(card, 0, tokens) == pytest.approx(expected(published, layers, width, tokens), rel=0.05)


def test_memory_for_a_published_shape_by_hand(tmp_path: Path) -> None:
    header = QWEN["qwen2.5:0.5b"].header(tmp_path / "model.gguf")
    assert kv_bytes_per_token(header) == 24 * 2 * 64 * 2 * 2
    one, two = (memory_bytes(header, 10**9, slots=slots, context=2048) for slots in (1, 2))
    assert two - one == 2048 * kv_bytes_per_token(header)
    assert one > 10**9
