"""The header of a model file: the library's writer and reader as judges, and files that mean harm."""

import tracemalloc
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.infer.ggufs import head, matrix, named, text, u32, u64, write_gguf
from tirami.core.errors import ModelLoadError
from tirami.infer import resolve
from tirami.infer.card import count_parameters
from tirami.infer.gguf import Header
from tirami.infer.vocabulary import Fragments

fuzzed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refused(path: Path, data: bytes) -> str:
    with pytest.raises(ModelLoadError) as caught:
        Header.read(stored(path, data))
    assert caught.value.message == f"cannot load {path.name}: {caught.value.data['reason']}"
    return str(caught.value.data["reason"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_what_the_librarys_writer_wrote_is_read(path: Path) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_int8("an.int8", -3)
    writer.add_uint64("an.uint64", 2**64 - 1)
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "猫")
    writer.add_array("numbers", [3, 1, 2])
    writer.add_array("texts", ["a", "", "猫"])
    writer.add_tensor("one", matrix(3, 5))
    writer.add_tensor("two", matrix(4, 8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = Header.read(path)
    assert header.architecture == "llama"
    assert header.number("block_count") == 2
    assert [header.values[key] for key in ("an.int8", "an.uint64", "a.float", "a.bool")] == [-3, 2**64 - 1, 0.5, True]
    assert header.text("a.text") == "猫"
    assert header.text("an.int8") == "" == header.text("absent")
    assert header.number("a.text") == 0 == header.number("absent")
    assert header.numbers("numbers") == (3, 1, 2)
    assert list(header.strings("texts")) == [b"a", b"", "猫".encode()]
    assert header.numbers("texts") == () == tuple(header.strings("numbers"))
    assert [(tensor.name, tensor.shape, tensor.elements) for tensor in header.tensors] == [
        ("one", (5, 3), 15),
        ("two", (8, 4), 32),
    ]
    reader = GGUFReader(path)
    assert header.data_offset == reader.data_offset
    first = header.bytes_at(header.data_offset, 15 * 4)
    assert first == matrix(3, 5).tobytes()


@pytest.mark.model
def test_the_real_model_is_read_as_the_library_reads_it() -> None:
    model = resolve("smollm2:135m")
    header, reader = Header.read(model.path), GGUFReader(model.path)
    assert header.data_offset == reader.data_offset
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [
        (tensor.name, tuple(tensor.shape.tolist())) for tensor in reader.tensors
    ]
    assert sum(1 for _ in header.strings("tokenizer.ggml.tokens")) == 49_152


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"GG", "ends inside its header"),
        (b"GGML" + head()[4:], "does not begin with GGUF"),
        (head(version=1), "version 1"),
        (head(version=4), "version 4"),
        (head(version=0x03000000), "version"),
        (b"GGUF" + u32(3) + u64(0), "ends inside its header"),
        (head(pairs=2**63), "absurdly many"),
        (head(tensors=2**64 - 1), "absurdly many"),
        (head(pairs=9_999), "ends inside its header"),
        (head(pairs=1) + text("key") + u32(99), "unknown type 99"),
        (head(pairs=1) + text("key") + u32(9) + u32(9) + u64(1), "array of unknown type 9"),
        (head(pairs=1) + text("key") + u32(9) + u32(4) + u64(2**62), "ends inside its header"),
        (head(pairs=1) + text("key") + u32(9) + u32(8) + u64(2**64 - 1) + bytes(64), "ends inside its header"),
        (head(pairs=1) + text("key") + u32(9) + u32(8) + u64(2) + u64(2**64 - 1), "ends inside its header"),
        (head(pairs=1) + u64(2**64 - 1) + b"key", "ends inside its header"),
        (head(pairs=1) + text("key") + u32(8) + u64(2**40), "ends inside its header"),
        (head(pairs=1) + named("key", "x").replace(b"x", b"\xff"), "not UTF-8"),
        (head(pairs=2) + named("key", "x") * 2, "twice"),
        (head(pairs=1) + text("general.alignment") + u32(4) + u32(0), "alignment"),
        (head(pairs=1) + text("general.alignment") + u32(4) + u32(24), "alignment"),
        (head(tensors=1) + text("w") + u32(5), "5 dimensions"),
        (head(tensors=1) + text("w") + u32(1) + u64(4) + u32(0) + u64(2**63), "not all there"),
        (head(tensors=1) + text("w") + u32(1) + u64(4) + u32(0) + u64(0), "not all there"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_reason(path: Path, data: bytes, reason: str) -> None:
    assert reason in refused(path, data)


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelLoadError):
        Header.read(tmp_path / name)


def test_a_file_cut_short_anywhere_in_its_header_is_refused(path: Path, tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", tokens=[b"a", b"b"]).read_bytes()
    offset = Header.read(tmp_path / "whole.gguf").data_offset
    for end in range(offset):
        refused(path, whole[:end])


def load(path: Path) -> None:
    """Everything done with a header before llama.cpp sees the file."""
    try:
        header = Header.read(path)
    except ModelLoadError:
        return
    count_parameters(header)
    Fragments.read(header)


def peak(path: Path) -> int:
    tracemalloc.start()
    try:
        load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@fuzzed
@given(data=st.binary(max_size=400), known=st.booleans())
def test_arbitrary_bytes_never_do_harm(path: Path, data: bytes, known: bool) -> None:
    assert peak(stored(path, b"GGUF" + u32(3) + data if known else data)) < 1 << 20


@fuzzed
@given(
    tensors=st.sampled_from([0, 1, 999_999]),
    pairs=st.sampled_from([0, 1, 2, 10_000]),
    body=st.lists(
        st.one_of(
            st.sampled_from([text("general.architecture"), text("tokenizer.ggml.tokens"), text("w"), b""]),
            st.builds(u32, st.integers(0, 12)),
            st.builds(u64, st.sampled_from([0, 1, 2, 5, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 9, 2**64 - 1])),
            st.binary(max_size=12),
        ),
        max_size=12,
    ),
)
def test_plausible_pieces_never_do_harm(path: Path, tensors: int, pairs: int, body: list[bytes]) -> None:
    assert peak(stored(path, head(tensors, pairs) + b"".join(body))) < 1 << 20


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "sound.gguf"
    tokens = [b"<0xE7>", b"\xc4\xa0", "ç".encode(), b"plain"]
    tensors = {"token_embd.weight": matrix(8, 32), "output.weight": matrix(8, 32, 1)}
    return write_gguf(path, tokens=tokens, kinds=[6, 1, 1, 1], tensors=tensors).read_bytes()


@fuzzed
@given(
    place=st.floats(0, 1, exclude_max=True),
    patch=st.one_of(st.binary(min_size=1, max_size=8), st.builds(u64, st.integers(0, 2**64 - 1))),
    cut=st.integers(0, 4000),
)
def test_a_sound_file_with_a_wound_never_does_harm(
    path: Path, sound: bytes, place: float, patch: bytes, cut: int
) -> None:
    at = int(place * len(sound))
    wounded = sound[:at] + patch + sound[at + len(patch) :]
    assert peak(stored(path, wounded[: max(0, len(wounded) - cut)])) < 4 << 20
