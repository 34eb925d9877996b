"""From a model file to its card: what is served, priced and signed."""

from math import sqrt
from pathlib import Path
from typing import Final

from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.digests import DigestBook, file_digest
from tirami.infer.engine import CountedBy, ModelCard
from tirami.infer.gguf import Header, Tensor

EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"
MAX_COMPARED: Final = 1 << 16
"""Numbers of a row that are looked at; no embedding is wider, and a header may claim anything."""
SAME_MATRIX: Final = 0.98
"""Cosine of two quantisations of one row is above this, of different matrices near 0."""
QUANTIZATIONS: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19:
    "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27:
    "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38:
    "MXFP4_MOE",
}  # fmt: skip
"""Name by ``general.file_type``."""


def read_card(
    path: Path, name: str, context: int, *, expected: Digest | None = None, digests: DigestBook | None = None
) -> ModelCard:
    """Describe a GGUF file. Blocking: it reads the whole file unless ``digests`` knows it.

    Args:
        path: the file.
        name: the id clients use.
        context: tokens of one slot; lowered to what the model was trained for.
        expected: digest the file must have.
        digests: where digests are remembered.

    Raises:
        ModelLoadError: the file is missing, no GGUF, cut short, or describes no transformer.
        ModelDigestMismatch: it is not the expected file.
    """
    header = Header.read(path)
    digest = digests.digest(path) if digests else file_digest(path)
    if expected is not None and digest != expected:
        raise ModelDigestMismatch(
            f"{path.name} is not the expected file: its SHA-256 is {digest.hex()}, not {expected.hex()}",
            expected=expected.hex(),
            actual=digest.hex(),
        )
    layers, hidden = header.number("block_count"), header.number("embedding_length")
    if not (header.architecture and layers > 0 and hidden > 0):
        reason = "it does not describe a language model"
        raise ModelLoadError(f"cannot load {path.name}: {reason}", reason=reason)
    parameters, active = count_parameters(header)
    return ModelCard(
        name=name,
        digest=digest,
        tokenizer_digest=file_digest(path, header.data_offset),
        context_length=min(context, header.number("context_length") or context),
        parameters=parameters,
        active_parameters=active,
        layers=layers,
        hidden=hidden,
        quantization=QUANTIZATIONS.get(header.number("general.file_type"), "unknown")
        if "general.file_type" in header.values
        else "unknown",
        size_bytes=path.stat().st_size,
        counted_by=CountedBy.ENGINE,
        trained_context=header.number("context_length"),
    )


def count_parameters(header: Header) -> tuple[int, int]:
    """All weights, and those a token touches.

    A tied embedding (input and output one matrix) counts once, also in the files that store it twice. Of
    expert tensors a token touches ``expert_used_count`` of ``expert_count``.
    """
    embedding, output = _ends(header)
    tied = embedding and output and _same_matrix(header, embedding, output)
    return _counted(header, output.elements if output and tied else 0)


def possible_parameters(header: Header) -> frozenset[tuple[int, int]]:
    """What :func:`count_parameters` may say of a header whose weights nobody here has: two matrices of one shape, for
    input and output, may be one that is stored twice."""
    embedding, output = _ends(header)
    found = {_counted(header, 0)}
    if embedding and output and embedding.shape == output.shape:
        found.add(_counted(header, output.elements))
    return frozenset(found)


def _ends(header: Header) -> tuple[Tensor | None, Tensor | None]:
    tensors = {tensor.name: tensor for tensor in header.tensors}
    return tensors.get(EMBEDDING), tensors.get(OUTPUT)


def _counted(header: Header, repeated: int) -> tuple[int, int]:
    total = sum(tensor.elements for tensor in header.tensors) - repeated
    experts = header.number("expert_count")
    if experts < 1:
        return total, total
    routed = sum(tensor.elements for tensor in header.tensors if "_exps." in tensor.name)
    return total, total - routed + routed * min(header.number("expert_used_count"), experts) // experts


def _same_matrix(header: Header, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors quantise the same numbers, judged by some of their rows."""
    if one.shape != other.shape or len(one.shape) != 2:
        return False
    rows = range(1, one.shape[1], max(1, one.shape[1] // 4))
    return all(_cosine(_row(header, one, row), _row(header, other, row)) > SAME_MATRIX for row in rows)


def _row(header: Header, tensor: Tensor, row: int) -> list[float]:
    import numpy
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        kind = GGMLQuantizationType(tensor.kind)
        block, size = GGML_QUANT_SIZES[kind]
        width = tensor.shape[0] // block * size
        compared = min(tensor.shape[0], MAX_COMPARED) // block * size
        raw = header.bytes_at(header.data_offset + tensor.offset + row * width, compared)
        numbers: list[float] = dequantize(numpy.frombuffer(raw, dtype=numpy.uint8), kind).tolist()
    except (ValueError, KeyError, NotImplementedError):
        return []
    return numbers


def _cosine(one: list[float], other: list[float]) -> float:
    length = sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=False)) / length if length else 0.0
