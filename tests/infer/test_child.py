"""The child process: its end, its memory, its secrets, and the model files it refuses."""

import asyncio
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.infer.children import alive, children, command, eventually
from tirami.core.errors import EngineFailed, InvalidRequest, ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import ChildEngine, FinishReason, LocalModel, Sampling, default_models_dir, resolve
from tirami.infer.child import LONGEST_BACKOFF_S, backoff_s

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.model]

STORY = [{"role": "user", "content": "Write a very long story about a fox and a whale."}]
GLYPHS = [
    "猫について教えて。",
    "日本の首都はどこですか？",
    "한국어로 대답해 주세요.",
    "Reply only with emoji: 🌱🚀🍰🧮🦊",
    "😀😀😀 repeat after me: 🦊🚀猫",
    "👩‍👩‍👧‍👦 is a family. Write ten more families in emoji.",
    "请用中文写一首关于山的诗。",
    "Translate to Japanese: the fish swims in the river.",
]


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return resolve("smollm2:135m")


def engine_for(path: Path, **options: object) -> ChildEngine:
    """Of one compute thread: more of them wait for each other on a busy machine."""
    settings: dict[str, object] = {"slots": 4, "context": 512, "threads": 1, "models_dir": default_models_dir()}
    return ChildEngine(path, name="test", **{**settings, **options})  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model: LocalModel) -> AsyncIterator[ChildEngine]:
    environ = {"TIRAMI_API_TOKEN": "canary-1", "HF_TOKEN": "canary-2", "DB_PASSWORD": "canary-3", "AWS_ACCESS_KEY": "4"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        engine = engine_for(model.path)
        await engine.start()
    yield engine
    await engine.close()


async def answered(engine: ChildEngine) -> int:
    """Completion tokens of a short answer."""
    prompt = await engine.prepare([{"role": "user", "content": "Say hello."}])
    async with engine.generate(prompt, Sampling(max_tokens=4, seed=1)) as generation:
        async for _ in generation:
            pass
        return generation.reading().completion_tokens


async def back(engine: ChildEngine, restarts: int) -> None:
    await eventually(lambda: engine.status().ready and engine.status().restarts == restarts, within_s=5)


async def test_it_tells_what_it_computes_on(engine: ChildEngine) -> None:
    status = engine.status()
    assert re.fullmatch(r".+ \(.+\)", status.device)
    assert status.layers_offloaded == (0 if status.device.startswith("CPU") else engine.card.layers)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def url_and_key(engine: ChildEngine) -> tuple[str, str]:
    assert engine._link is not None
    worker = engine._link.worker
    return f"http://127.0.0.1:{worker.port}", worker.api_key


async def test_ids_read_as_the_text_or_are_said_to_be_incomplete(engine: ChildEngine) -> None:
    url, key = await url_and_key(engine)

    async def complete(words: str, session: aiohttp.ClientSession) -> bool:
        prompt = await engine.prepare([{"role": "user", "content": words}])
        async with engine.generate(prompt, Sampling(max_tokens=32, seed=11)) as generation:
            chunks = [chunk async for chunk in generation]
        reading, ids = generation.reading(), [number for chunk in chunks for number in chunk.ids]
        text = "".join(chunk.text for chunk in chunks)
        if not reading.ids_complete:
            assert len(ids) < chunks[-1].count, words
            return "\ufffd" in text  # such a character is no token's
        assert len(ids) == chunks[-1].count, words
        assert chunks[-1].count == reading.completion_tokens or generation.finish_reason is FinishReason.LENGTH, words
        if generation.finish_reason is FinishReason.STOP:
            ids.pop()  # the end-of-turn token, which has no text
        async with session.post(f"{url}/detokenize", json={"tokens": ids}) as response:
            assert (await response.json())["content"] == text, words
        return True

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        found = await asyncio.gather(*(complete(words, session) for words in GLYPHS))
    assert sum(found) >= len(GLYPHS) - 1


async def test_a_killed_child_fails_the_answer_and_is_back_within_five_seconds(engine: ChildEngine) -> None:
    assert await answered(engine) > 0
    (pid,), files, restarts = children(), open_files(), engine.status().restarts
    prompt = await engine.prepare(STORY)
    seen = 0
    async with engine.generate(prompt, Sampling(max_tokens=400, seed=3)) as generation:
        with pytest.raises(EngineFailed):
            async for chunk in generation:
                seen = chunk.count
                if seen == 5:
                    os.kill(pid, signal.SIGKILL)
        assert generation.reading().completion_tokens == seen >= 5
        assert generation.finish_reason is FinishReason.FAILED
    await back(engine, restarts + 1)
    assert await answered(engine) > 0
    assert engine.status().restarts == restarts + 1
    assert engine.status().busy == 0
    assert len(children()) == 1
    assert open_files() <= files + 1


async def test_an_answer_begun_on_a_dead_child_fails_cleanly(engine: ChildEngine) -> None:
    (pid,), restarts = children(), engine.status().restarts
    prompt = await engine.prepare(STORY)
    async with engine.generate(prompt, Sampling(max_tokens=4, seed=3)) as generation:
        os.kill(pid, signal.SIGKILL)
        await back(engine, restarts + 1)
        with pytest.raises(EngineFailed):
            async for _ in generation:
                pass
    assert await answered(engine) > 0


async def test_requests_while_the_child_is_away_fail_and_say_when_to_come_back(engine: ChildEngine) -> None:
    (pid,), restarts = children(), engine.status().restarts
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not engine.status().ready, within_s=5)
    with pytest.raises(EngineFailed) as caught:
        await engine.prepare(STORY)
    assert caught.value.retry_after
    await back(engine, restarts + 1)


async def test_the_port_refuses_whoever_has_no_key(engine: ChildEngine) -> None:
    url, _ = await url_and_key(engine)
    body = {"prompt": "hello", "n_predict": 1}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        async with aiohttp.ClientSession(headers=headers) as session:
            for method, path in (("POST", "/completion"), ("POST", "/tokenize"), ("GET", "/slots"), ("GET", "/props")):
                async with session.request(method, url + path, json=body if method == "POST" else None) as response:
                    assert response.status == 401, path


async def test_the_child_is_told_no_secret(engine: ChildEngine) -> None:
    _, key = await url_and_key(engine)
    (pid,) = children()
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    names = {entry.partition(b"=")[0] for entry in environ.split(b"\0")}
    assert b"PATH" in names
    assert not names & {b"TIRAMI_API_TOKEN", b"HF_TOKEN", b"DB_PASSWORD", b"AWS_ACCESS_KEY"}
    assert b"canary" not in environ
    assert key.encode() not in environ + command(pid)


async def test_peak_memory_is_the_childs_own(engine: ChildEngine) -> None:
    prompt = await engine.prepare(STORY)
    async with engine.generate(prompt, Sampling(max_tokens=2, seed=1)) as generation:
        async for _ in generation:
            pass
    assert 50 << 20 < generation.reading().peak_memory_bytes < 4 << 30


@pytest.mark.parametrize(
    "messages",
    [[], [{"content": "no role"}], [{"role": "user", "content": object()}], [{"role": 7, "content": "x"}]],
    ids=["none", "no role", "not JSON", "role is a number"],
)
async def test_messages_that_are_none_are_the_callers_fault(
    engine: ChildEngine, messages: list[dict[str, object]]
) -> None:
    with pytest.raises(InvalidRequest):
        await engine.prepare(messages)


async def test_an_answer_without_tokens_is_refused(engine: ChildEngine) -> None:
    prompt = await engine.prepare(STORY)
    with pytest.raises(InvalidRequest):
        async with engine.generate(prompt, Sampling(max_tokens=0, seed=1)):
            pass


async def test_a_ceiling_over_the_context_shrinks_to_it(engine: ChildEngine) -> None:
    prompt = await engine.prepare([{"role": "user", "content": "word " * 480}])
    room = engine.card.context_length - prompt.count
    assert 0 < room < 40
    async with engine.generate(prompt, Sampling(max_tokens=10_000, seed=1)) as generation:
        async for _ in generation:
            pass
    assert generation.reading().completion_tokens <= room
    assert generation.reading().prompt_tokens == prompt.count


async def test_a_stalled_child_is_replaced(model: LocalModel) -> None:
    engine = engine_for(model.path, slots=1, stall_timeout_s=2.0)
    before = set(children())
    await engine.start()
    try:
        (pid,) = set(children()) - before
        prompt = await engine.prepare(STORY)
        async with engine.generate(prompt, Sampling(max_tokens=400, seed=3)) as generation:
            with pytest.raises(EngineFailed):
                async for chunk in generation:
                    if chunk.count == 3:
                        os.kill(pid, signal.SIGSTOP)
        await back(engine, 1)
        assert not alive(pid)
        assert await answered(engine) > 0
    finally:
        await engine.close()
    assert set(children()) == before


async def test_a_child_that_stalls_before_an_answer_is_replaced_too(model: LocalModel) -> None:
    engine = engine_for(model.path, slots=1, stall_timeout_s=3.0)
    before = set(children())
    await engine.start()
    try:
        (pid,) = set(children()) - before
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineFailed):
            await engine.prepare(STORY)
        await back(engine, 1)
        assert await answered(engine) > 0
    finally:
        await engine.close()


async def test_closing_ends_running_answers_and_the_child(model: LocalModel) -> None:
    engine, before = engine_for(model.path, slots=1), children()
    await engine.start()
    prompt, flowing = await engine.prepare(STORY), asyncio.Event()

    async def read() -> None:
        async with engine.generate(prompt, Sampling(max_tokens=400, seed=3)) as generation:
            async for _ in generation:
                flowing.set()

    reader = asyncio.create_task(read())
    await flowing.wait()
    await engine.close()
    with pytest.raises(EngineFailed):
        await reader
    assert children() == before
    assert engine.status().busy == 0


async def test_closing_while_a_new_child_loads_leaves_none(model: LocalModel) -> None:
    engine, before = engine_for(model.path, slots=1), set(children())
    await engine.start()
    (pid,) = set(children()) - before
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: bool(set(children()) - before - {pid}), within_s=5)
    await engine.close()
    assert set(children()) == before


async def test_a_start_that_is_given_up_leaves_no_child(model: LocalModel) -> None:
    engine, before = engine_for(model.path, slots=1), set(children())
    starting = asyncio.create_task(engine.start())
    await eventually(lambda: bool(set(children()) - before), within_s=5)
    starting.cancel()
    await asyncio.wait([starting])
    assert set(children()) == before


def damaged(source: Path, target: Path, how: str) -> Path:
    whole = source.read_bytes() if how.startswith("cut") else b""
    pieces = {
        "empty": b"",
        "random": secrets.token_bytes(1 << 16),
        "magic": b"GGUG" + source.open("rb").read(1 << 20)[4:],
        "cut in the header": whole[:20_000],
        "cut in half": whole[: len(whole) // 2],
        "cut at the last byte": whole[:-1],
    }
    target.write_bytes(pieces[how])
    return target


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "empty"),
        ("random", "does not begin with GGUF"),
        ("magic", "does not begin with GGUF"),
        ("cut in the header", "ends inside its header"),
        ("cut in half", "weights are not all there"),
        ("cut at the last byte", "."),
    ],
)
async def test_a_damaged_file_is_refused_with_the_reason(
    model: LocalModel, tmp_path: Path, how: str, reason: str
) -> None:
    engine = engine_for(damaged(model.path, tmp_path / "damaged.gguf", how), models_dir=None)
    before = children()
    with pytest.raises(ModelLoadError, match=rf"cannot load damaged\.gguf: .*{reason}"):
        await engine.start()
    assert not engine.status().ready
    assert engine.status().detail != "loading"
    assert children() == before
    await engine.close()


async def test_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="No such file"):
        await engine_for(tmp_path / "nowhere.gguf").start()


async def test_a_file_with_another_digest_is_refused(model: LocalModel) -> None:
    engine = engine_for(model.path, digest=Digest(bytes(32)))
    with pytest.raises(ModelDigestMismatch) as caught:
        await engine.start()
    assert caught.value.data == {"expected": bytes(32).hex(), "actual": model.digest.hex()}


@pytest.mark.parametrize("limit", [64 << 20, 256 << 20, 400 << 20])
async def test_out_of_memory_at_load_is_said_as_such(model: LocalModel, limit: int) -> None:
    engine = engine_for(model.path, slots=8, context=2048, memory_limit_bytes=limit)
    before = children()
    with pytest.raises(ModelLoadError) as caught:
        await engine.start()
    assert caught.value.data["reason"] == "out of memory"
    assert children() == before


async def test_a_load_that_takes_too_long_is_given_up(model: LocalModel) -> None:
    before = children()
    with pytest.raises(ModelLoadError, match="not ready after"):
        await engine_for(model.path, start_timeout_s=0.05).start()
    assert children() == before


PARENT = """
import asyncio, os, sys
from pathlib import Path
from tirami.infer import ChildEngine, default_models_dir
async def main():
    engine = ChildEngine(Path(sys.argv[1]), name="x", slots=1, context=128, models_dir=default_models_dir())
    await engine.start()
    print("up", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_child_dies_with_a_parent_killed_hard(model: LocalModel) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(model.path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"up\n"
    (pid,) = children(parent.pid)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not alive(pid), within_s=5)


async def test_backoff_starts_at_nothing_and_is_bounded() -> None:
    pauses = [backoff_s(failures) for failures in range(64)]
    assert pauses[:4] == [0, 0, 0.5, 1]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_BACKOFF_S
