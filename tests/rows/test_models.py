"""Several models, the catalogue, the servers behind an upstream URL, and what a token costs in operations."""

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.infer.children import command, parent_of
from tests.infer.ggufs import write_gguf
from tests.infer.hubs import Hub
from tests.infer.test_upstream_servers import KINDS, SIZE, Kind
from tests.processes import NodeProcess
from tests.rows.load import crowd
from tests.rows.test_l0 import processes
from tests.rows.test_l1 import wait_until
from tests.rows.test_saf import chat
from tirami.api.schemas import ChatCompletionRequest, ModelQuery, ModelRequest, TradesQuery
from tirami.core.errors import Conflict, InsufficientScope, ModelNotFound
from tirami.infer import default_models_dir, resolve

SMALL, OTHER = "smollm2:135m", "gemma3:270m"
TIRAMI = [sys.executable, "-m", "tirami.cli"]
HUB_PATH = "/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q4_k_m.gguf"
DEFAULT = "qwen2.5:0.5b"


def question(model: str, text: str = "Hello", most: int = 8, **more: object) -> ChatCompletionRequest:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most, "seed": 1}
    return ChatCompletionRequest.model_validate(body | more)


@pytest.fixture(scope="module")
def cached() -> Path:
    """The directory where both models that need no hub lie; fetched once on a machine."""
    for name in (SMALL, OTHER):
        resolve(name)
    return default_models_dir()


@contextmanager
def serving(home: Path, cached: Path, **settings: str) -> Iterator[NodeProcess]:
    env = {"TIRAMI_INFER_MODELS_DIR": str(cached), "TIRAMI_API_RATE_PER_SECOND": "9999"}
    env["TIRAMI_PRICING_FOLLOW_LOAD"] = "false"  # prices that fall meanwhile are not those of a moment ago
    settings = {"threads": "1"} | settings  # two that wait for each other on a busy machine take ten times as long
    env |= {f"TIRAMI_INFER_{name.upper()}": value for name, value in settings.items()}
    with NodeProcess(home, "--model", SMALL, "--offline", env=env) as node:
        yield node


def engines(node: NodeProcess) -> int:
    """Engine processes of a node."""
    return sum(parent_of(pid) == node.process.pid and b"worker.py" in command(pid) for pid in processes())


@pytest.mark.row("API-02")
@pytest.mark.row("L0-01")
@pytest.mark.model
@pytest.mark.timeout(300)
def test_two_models_are_listed_with_their_prices_and_serve_side_by_side(cached: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "home", cached) as node, node.client() as owner, node.admin() as admin:
        before = {entry.id: entry for entry in owner.models().data}
        assert (before[SMALL].state, before[OTHER].state) == ("loaded", "installed")
        assert engines(node) == 1
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(owner.chat_completions, [question(OTHER)] * 4))
        assert {answer.model for answer in answers} == {OTHER}
        assert engines(node) == 2, "four requests waited for one load"
        listed = owner.models().data
        assert listed[0].id == SMALL, "the configured one comes first"
        after = {entry.id: entry for entry in listed}
        assert {after[name].state for name in (SMALL, OTHER)} == {"loaded"}
        assert after[SMALL].digest != after[OTHER].digest
        for entry in (after[SMALL], after[OTHER]):
            assert entry.digest == resolve(entry.id, offline=True).digest.hex()
            assert entry.price_out_utrm > 0
            assert entry.context_length == 2048
            assert owner.model(entry.id) == entry
        for name in (SMALL, OTHER, SMALL):
            answer = owner.chat_completions(question(name))
            trade = owner.trade(str(answer.x_tirami.trade_id))
            assert trade.model_id == after[name].digest, "what is signed is the model that answered"
        engine = owner.status().engine
        assert (engine.model, sorted(engine.models), engine.slots) == (SMALL, sorted((SMALL, OTHER)), 16)
        rows = {row.model: row for row in owner.installed_models().models}
        assert all(rows[name].memory_bytes > rows[name].size_bytes for name in (SMALL, OTHER))
        with pytest.raises(ModelNotFound, match="tirami models pull qwen2.5:3b"):
            owner.chat_completions(question("qwen2.5:3b"))
        with pytest.raises(InsufficientScope):
            owner.remove_model(ModelQuery(model=OTHER))
        admin.change_model(ModelRequest(model=OTHER, action="unload"))
        wait_until(lambda: engines(node) == 1)
        assert (owner.model(OTHER).state, owner.model(SMALL).state) == ("installed", "loaded")


@pytest.mark.row("API-02")
@pytest.mark.model
@pytest.mark.timeout(300)
async def test_memory_for_one_of_two_goes_to_whoever_is_asked_and_never_from_under_an_answer(
    cached: Path, tmp_path: Path
) -> None:
    """450 MiB hold either model with two slots of 512 tokens, not both."""
    with serving(tmp_path / "home", cached, memory_budget_mib="450", slots="2", context="512") as node:
        async with crowd(node.url) as people:

            async def ask(name: str, most: int) -> tuple[int, str, float]:
                body = question(name, "Tell me a long story.", most).model_dump(exclude_unset=True)
                async with people.http.post(node.url + "/v1/chat/completions", json=body) as reply:
                    answer = await reply.json()
                    assert reply.status == 200, answer
                    return answer["usage"]["completion_tokens"], answer["model"], time.monotonic()

            running = [asyncio.create_task(ask(SMALL, 20)) for _ in range(2)]
            async with people.http.get(node.url + "/v1/tirami/models") as reply:
                assert (await reply.json())["models"][0]["users"] == 2
            coming = [asyncio.create_task(ask(OTHER, 2)) for _ in range(2)]
            async with asyncio.timeout(240):
                done, came = await asyncio.gather(*running), await asyncio.gather(*coming)
        assert all(model == SMALL for _, model, _ in done)
        assert all(model == OTHER for _, model, _ in came)
        assert min(at for _, _, at in came) > max(at for _, _, at in done), "an answer under way kept its model"
        assert engines(node) == 1
        with node.client() as owner:
            status = owner.installed_models()
            assert status.memory_used_bytes <= status.memory_budget_bytes == 450 << 20
            assert owner.chat_completions(question(SMALL)).model == SMALL, "and it comes back when it is asked for"
            assert engines(node) == 1
            assert owner.balance().reserved == 0


@pytest.mark.row("L0-02", part="digests, resumption, offline and refusal against a hub of our own; not the real one")
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_download_survives_a_crash_is_pinned_and_works_offline_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    """The hub on the loopback serves the small model's file in the place of the default one's."""
    data = resolve(SMALL).path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    cache = tmp_path / "cache" / "tirami" / "models"
    with Hub(files={HUB_PATH: data}, etag=digest, cuts=[60_000_000], cut=0) as hub:
        env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "HF_TOKEN_PATH": "/nonexistent"}
        node = NodeProcess(tmp_path / "home", "--model", DEFAULT, env=env)
        starting = threading.Thread(target=_start_quietly, args=(node,))
        starting.start()
        wait_until(lambda: len(hub.asked) >= 3, seconds=30)
        node.kill()
        starting.join()
        hub.cut = None
        hub.asked.clear()
        with NodeProcess(tmp_path / "home", "--model", DEFAULT, env=env) as node, node.client() as owner:
            entry = owner.models().data[0]
            assert (entry.id, entry.digest, entry.size_bytes) == (DEFAULT, digest, len(data))
            assert owner.chat_completions(chat("Hi", 3)).model == DEFAULT
        asked = [request.range for request in hub.asked if request.method == "GET"]
        assert len(asked) == 1
        assert 32 << 20 <= int(str(asked[0]).removeprefix("bytes=").removesuffix("-")) <= 60_000_000
        assert json.loads((node.data_dir / "pins.json").read_bytes()) == {
            "hub:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf": digest
        }
        hub.asked.clear()
        with NodeProcess(tmp_path / "home", "--model", DEFAULT, "--offline", env=env) as node, node.client() as owner:
            assert owner.models().data[0].digest == digest
        assert hub.asked == []
        for case, said in (("hub", "refused"), ("cache", "damaged")):
            if case == "hub":
                (cache / "qwen2.5-0.5b-instruct-q4_k_m.gguf").unlink()
                hub.files[HUB_PATH] = data[:-1] + b"x"
                hub.etag = hashlib.sha256(hub.files[HUB_PATH]).hexdigest()
                options: tuple[str, ...] = ("--model", DEFAULT)
            else:
                (cache / "qwen2.5-0.5b-instruct-q4_k_m.gguf").write_bytes(data[:-1] + b"x")
                options = ("--model", DEFAULT, "--offline")
            node = NodeProcess(tmp_path / "home", *options, env=env)
            node.modelless = True  # it serves, though nothing can answer
            with node.start().client() as owner:
                wait_until(lambda owner=owner, said=said: said in str(owner.status().engine.problem), seconds=60)
                assert not owner.health().model_loaded
            assert node.stop() == 0
        assert [path.name for path in cache.glob(".*")] == [], "nothing of the refused file is left"


def _start_quietly(node: NodeProcess) -> None:
    try:
        node.start()
    except (AssertionError, OSError, httpx2.TransportError):
        return


@contextmanager
def speaking(kind: Kind) -> Iterator[str]:
    """A server that lists and streams as ``kind`` does; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send("application/json", json.dumps({"object": "list", "data": [kind.entry]}).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._send("text/event-stream", b"".join(kind.stream))

        def _send(self, media: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", media)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.row("L0-06")
@pytest.mark.parametrize("name", ["mlx-lm", "Ollama", "vLLM", "LM Studio", "llama-server"])
def test_a_node_in_front_of_a_local_server_answers_counts_and_books(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    env = {"TIRAMI_INFER_UPSTREAM_PARAMETERS": str(SIZE)}
    with (
        speaking(kind) as url,
        NodeProcess(tmp_path / "home", "--upstream", url, env=env) as node,
        node.client() as owner,
    ):
        whole = owner.chat_completions(chat("Hi", 5))
        assert whole.choices[0].message.content == "Hello there"
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == kind.counted
        assert whole.choices[0].finish_reason == kind.finish.value
        streamed = list(owner.stream_chat(chat("Hi", 5)))
        text = "".join(choice["delta"].get("content") or "" for event in streamed for choice in event["choices"])
        assert text == "Hello there"
        for trade in owner.trades().trades:
            assert (trade.prompt_tokens, trade.tokens_processed) == kind.counted
            assert trade.flops_estimated >= 2 * SIZE * sum(kind.counted)


@pytest.mark.row("CLI-08")
def test_models_lists_the_catalogue_with_what_is_installed_its_digest_and_size(tmp_path: Path) -> None:
    data = write_gguf(tmp_path / "source.gguf").read_bytes()
    with Hub(files={HUB_PATH: data}) as hub:
        env = {
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HF_ENDPOINT": hub.url, "COLUMNS": "120", "PYTHONPATH": ":".join(sys.path),
        }  # fmt: skip

        def run(*words: str) -> str:
            ended = subprocess.run([*TIRAMI, *words], capture_output=True, text=True, env=env, timeout=60, check=True)
            return ended.stdout

        shown = run("models")
        for alias in ("0.5b", "1.5b", "3b", "7b", "14b", "32b"):
            assert f"qwen2.5:{alias}" in shown
        assert all(word in shown for word in (SMALL, OTHER, "State", "Size", "SHA-256", "~491 MB", "available"))
        run("models", "pull", DEFAULT)
        rows = {row["model"]: row for row in json.loads(run("models", "list", "--json"))["models"]}
        digest = hashlib.sha256(data).hexdigest()
        assert (rows[DEFAULT]["state"], rows[DEFAULT]["size_bytes"], rows[DEFAULT]["digest"]) == (
            "installed", len(data), digest,
        )  # fmt: skip
        assert digest[:16] in run("models")
        run("models", "rm", DEFAULT)
        assert not list((tmp_path / "cache" / "tirami" / "models").glob("*.gguf"))


@pytest.mark.row("CLI-08")
@pytest.mark.model
def test_models_of_a_running_node_are_loaded_unloaded_and_not_removed_while_in_use(
    cached: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "home", cached) as node, node.client() as owner, node.admin() as admin:

        def run(*words: str) -> str:
            words = (*TIRAMI, "models", *words, "--data-dir", str(node.data_dir))
            return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout

        assert f"{OTHER} is loaded" in run("load", OTHER)
        assert engines(node) == 2
        stream = owner.stream_chat(question(OTHER, "Tell me a long story.", 400))
        next(stream)
        for change in (
            lambda: admin.change_model(ModelRequest(model=OTHER, action="unload")),
            lambda: admin.remove_model(ModelQuery(model=OTHER)),
        ):
            with pytest.raises(Conflict):
                change()
        stream.close()
        wait_until(lambda: next(r for r in owner.installed_models().models if r.model == OTHER).users == 0)
        assert f"{OTHER} is installed" in run("unload", OTHER)
        wait_until(lambda: engines(node) == 1)
    assert resolve(OTHER, offline=True).path.exists()


@pytest.mark.row("GEN-04", part="the tensor lists of the models at hand and of the published Qwen2.5 shapes")
@pytest.mark.model
def test_every_trade_tells_its_operations_and_what_a_billion_of_them_cost(model_node: NodeProcess) -> None:
    """30 layers of 9 heads of 64, 134 515 008 weights: as their makers publish them."""
    with model_node.client() as owner:
        for most in (1, 40):
            owner.chat_completions(chat("Tell me a story.", most, temperature=0.0, seed=1))
        for trade in owner.trades(TradesQuery(limit=100)).trades:
            tokens = trade.prompt_tokens + trade.tokens_processed
            wanted = sum(2 * 134_515_008 + 4 * 30 * 576 * position for position in range(1, tokens + 1))
            assert trade.flops_estimated == pytest.approx(wanted, rel=0.05)
            assert trade.trm_per_gflop == pytest.approx(trade.trm_amount * 10**9 / trade.flops_estimated, abs=1e-6)
