"""The payer's tokenizer against the engine's: the same ids, prompts and bytes for every model at hand."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.infer.blocks import byte_level, learned_merges, repository_lines, sentence_piece, write_model
from tests.infer.mixed_text import mixed_lines
from tirami.core.errors import InvalidRequest
from tirami.infer import (
    ChildEngine,
    Count,
    MetadataBlock,
    Prompter,
    Sampling,
    Tokenizer,
    Tools,
    default_models_dir,
    resolve,
)
from tirami.infer.rendering import RenderingProcesses
from tirami.infer.spelling import PRETOKENIZERS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.model, pytest.mark.timeout(600)]

LINES = 1200
TOLERANCE = 2
"""Of B10: what is signed is at most this many more than the canonical tokens."""
WEATHER = Tools(({"name": "weather", "description": "Wetter für", "parameters": {"type": "object", "properties": {}}},))
CALL = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
ASKED = {"role": "user", "content": "And in Zürich?\n\n  🦊"}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
SAID = {"role": "assistant", "content": " Well, 猫 "}
CHATS: list[tuple[list[dict[str, Any]], Tools | None]] = [
    ([ASKED], None),
    ([{"role": "system", "content": "Be <|im_end|> terse. <bos>"}, ASKED, SAID, ASKED], None),
    ([ASKED], WEATHER),
    ([ASKED, CALLED, {"role": "tool", "tool_call_id": "x", "content": "rain"}], WEATHER),
    ([ASKED, CALLED], None),
    ([ASKED, SAID], None),
    ([SAID], WEATHER),
    ([{"role": "user", "content": ""}], None),
]
QUESTIONS = [
    "Write a story about a fox.",
    "猫について教えて。",
    "Reply only with emoji: 🌱🚀🍰🧮🦊",
    "Write a Python class for a stack, with tests.",
]


class Both(NamedTuple):
    """One model, its engine and what a payer makes of its metadata block."""

    engine: ChildEngine
    payer: Prompter

    async def ids(self, text: str, *, special: bool) -> tuple[int, ...]:
        return await self.engine._live().client.tokenize(text, whole_prompt=special)


async def serving(path: Path, *, context: int) -> ChildEngine:
    engine = ChildEngine(path, name="m", slots=1, context=context, threads=1, models_dir=default_models_dir())
    await engine.start()
    return engine


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["smollm2:135m", "gemma3:270m"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    path = resolve(request.param).path
    block = MetadataBlock.of_file(path)
    engine = await serving(path, context=2048)
    assert block.digest == engine.card.tokenizer_digest
    yield Both(engine, Prompter.from_block(block, RenderingProcesses(0)))
    await engine.close()


async def test_ids_are_the_engines_own_and_say_the_same_bytes(both: Both) -> None:
    tokenizer = both.payer.tokenizer
    for line in mixed_lines(LINES):
        ids = tokenizer.encode(line, special=False)
        assert ids == await both.ids(line, special=False)
        assert tokenizer.encode(line, special=True) == await both.ids(line, special=True)
        assert tokenizer.decode(ids) == line.encode()


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([*range(1, 0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x11000), *range(0x1F000, 0x1FB00)]),
        pytest.param(range(1, 0x110000), marks=pytest.mark.soak),
    ],
    ids=["scripts and signs", "all"],
)
async def test_every_character_is_taken_for_what_the_engine_takes_it_for(both: Both, points: Sequence[int]) -> None:
    characters = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    for start in range(0, len(characters), 4000):
        text = "".join(f"a{character}1 {character} x" for character in characters[start : start + 4000])
        assert both.payer.tokenizer.encode(text, special=False) == await both.ids(text, special=False)


@pytest.mark.parametrize(("messages", "tools"), CHATS)
async def test_prompts_are_the_engines_own(both: Both, messages: list[dict[str, Any]], tools: Tools | None) -> None:
    engines, payers = await both.engine.prepare(messages, tools), await both.payer.prepare(messages, tools)
    assert (payers.text, payers.tokens, payers.count) == (engines.text, engines.tokens, engines.count)


async def test_what_the_engine_refuses_is_refused(both: Both) -> None:
    for prepare in (both.engine.prepare, both.payer.prepare):
        with pytest.raises(InvalidRequest):
            await prepare([ASKED, SAID, SAID])


async def test_a_sampled_answer_is_checked_chunk_by_chunk(both: Both) -> None:
    """B10 as a payer does it: bytes are equal, and what it would sign for is what the engine counted."""
    incomplete = 0
    for seed, question in enumerate(QUESTIONS):
        prompt = await both.payer.prepare([{"role": "user", "content": question}])
        count, text, signed, told, handed = Count(both.payer.tokenizer), "", 0, 0, 0
        async with both.engine.generate(prompt, Sampling(max_tokens=80, seed=seed, temperature=0.8)) as answer:
            async for chunk in answer:
                told, handed = told + len(chunk.ids), chunk.count
                if told == chunk.count:
                    assert both.payer.tokenizer.decode(chunk.ids) == chunk.text.encode()
                text += chunk.text
                canonical = count.feed(chunk.text.encode())
                assert canonical == len(both.payer.tokenizer.encode(text, special=False))
                signed = max(signed, min(chunk.count, canonical + TOLERANCE))
            reading = answer.reading()
        incomplete += not reading.ids_complete
        assert signed >= handed - 1, "half a character at the end is neither handed out nor paid"
    assert incomplete <= 2


def pieces() -> list[str]:
    """A vocabulary of stretches of words that are often in this repository, the longest and most frequent first."""
    seen: dict[str, int] = {}
    for line in repository_lines()[:2000]:
        for word in (f"▁{word}" for word in line.split()):
            for start in range(len(word)):
                for end in range(start + 1, min(len(word), start + 12) + 1):
                    seen[word[start:end]] = seen.get(word[start:end], 0) + 1
    return ["a▁b", "猫", *sorted(seen, key=lambda piece: (-seen[piece] * len(piece), piece))[:3000]]


MADE: dict[str, dict[str, Any]] = {
    **{pre: byte_level(pre, learned_merges(), {"<|im_end|>": 3, "<think>": 4}) for pre in sorted(PRETOKENIZERS)},
    "pieces with a space": sentence_piece(pieces(), {"<think>": 4, "  ": 4}),
    "pieces without": sentence_piece(pieces(), {"<think>": 4, "  ": 4}, add_space_prefix=False),
    "equal scores": {**sentence_piece(pieces()), "scores": [0.0] * (259 + len(dict.fromkeys(pieces())))},
}
"""Tokenizers of which no model can be had here, in a model of one layer: llama.cpp itself judges them."""
QUICK = {"qwen2", "llama-bpe", "gpt-2", "pieces with a space", "pieces without", "equal scores"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in sorted(MADE)]
)
async def test_a_made_tokenizer_agrees_with_llama_cpp(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", MADE[name])
    block = MetadataBlock.of_file(path)
    tokenizer = Tokenizer.from_block(block)
    both = Both(await serving(path, context=64), Prompter.from_block(block, RenderingProcesses(0)))
    try:
        lines = mixed_lines(400, seed=random.Random(name).randrange(1000))
        for line in lines:
            for special in (False, True):
                assert tokenizer.encode(line, special) == await both.ids(line, special=special)
        if name == "qwen2":
            got = [await one([ASKED, SAID, ASKED]) for one in (both.engine.prepare, both.payer.prepare)]
            assert got[0].tokens == got[1].tokens
    finally:
        await both.engine.close()
