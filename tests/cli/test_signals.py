"""SIGTERM, SIGHUP and Ctrl-C save and exit 0: idle, in the middle of an answer, and while a model loads."""

import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx2
import pytest

from tests.cli.running import Foreground, Shell
from tests.processes import NodeProcess
from tirami.api.schemas import ChatCompletionRequest
from tirami.core.errors import TiramiError
from tirami.sdk import Tirami
from tirami.testing import RunningEngine

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@dataclass
class Interrupted:
    """An answer that was streaming when its node was told to stop, and the node afterwards."""

    node: NodeProcess
    received: int = 0
    code: int | None = None
    log: str = ""
    billed: list[int] = field(default_factory=list)
    reserved: int | None = None
    sum_of_accounts: int | None = None

    def run(self, number: signal.Signals) -> None:
        first = threading.Event()
        with self.node:
            listener = threading.Thread(target=self._listen, args=(first,))
            listener.start()
            assert first.wait(20)
            self.node.process.send_signal(number)
            self.code = self.node.process.wait(20)
            listener.join()
            self.log = self.node.log()
            self.node.start()
            with self.node.admin() as admin:
                self.billed = [trade.tokens_processed for trade in admin.trades().trades]
                self.reserved, self.sum_of_accounts = admin.balance().reserved, admin.network().sum_of_accounts

    def _listen(self, first: threading.Event) -> None:
        body = ChatCompletionRequest.model_validate(
            {"messages": [{"role": "user", "content": "[[delay_ms=20]] go on"}], "max_tokens": 1500}
        )
        try:
            with Tirami(self.node.url) as client:
                for chunk in client.stream_chat(body):
                    if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                        self.received += 1
                        first.set()
        except (httpx2.TransportError, TiramiError):
            pass


@pytest.fixture(scope="module")
def interrupted(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> dict[signal.Signals, Interrupted]:
    """One node a signal, all at the same time."""
    found = {
        number: Interrupted(NodeProcess(tmp_path_factory.mktemp(number.name) / ".tirami", "--upstream", engine.url))
        for number in SIGNALS
    }
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(case.run, number) for number, case in found.items()]:
            done.result()
    return found


@pytest.mark.row("CLI-01")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_answer_in_progress_is_settled_and_saved(
    interrupted: dict[signal.Signals, Interrupted], engine: RunningEngine, number: signal.Signals
) -> None:
    case = interrupted[number]
    assert case.code == 0
    assert "everything is saved" in case.log
    assert 0 < case.received < 1500
    assert len(case.billed) == 1
    assert 0 <= case.billed[0] - case.received <= 64, "billed is what was on its way"
    assert (case.reserved, case.sum_of_accounts) == (0, 0)
    assert engine.busy() == 0


def test_stopping_in_the_middle_of_an_answer_is_no_exception(
    interrupted: dict[signal.Signals, Interrupted],
) -> None:
    assert not [number for number, case in interrupted.items() if "Traceback" in case.log]


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@pytest.mark.row("CLI-01")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_while_the_model_loads(nowhere: Shell, silent: str, number: signal.Signals) -> None:
    with Foreground(nowhere, "start", "--port", "0", "--upstream", silent) as started:
        url = started.until_announced(nowhere.home / ".tirami")
        assert httpx2.get(f"{url}/health").json()["model_loaded"] is False
        assert started.end(number) == 0
        assert "Press Ctrl-C" not in started.out
        assert started.out.endswith("everything is saved.\n")
        assert "Traceback" not in started.err


def test_a_second_signal_ends_at_once_and_loses_nothing(nowhere: Shell, engine: RunningEngine) -> None:
    for _ in range(2):
        with Foreground(nowhere, "start", "--port", "0", "--upstream", engine.url) as started:
            started.until("Press Ctrl-C")
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                started.process.send_signal(number)
            assert started.process.wait(20) in (0, 130)
            assert "Traceback" not in started.err


def test_ctrl_c_in_a_chat_ends_it_without_a_traceback(nowhere: Shell, engine: RunningEngine) -> None:
    environment = {"TIRAMI_INFER_UPSTREAM_URL": engine.url}
    with Foreground(nowhere, "chat", "[[delay_ms=50]] go on", "-n", "400", **environment) as chatting:
        chatting.until(" ")
        assert chatting.end(signal.SIGINT) == 130
        assert "Traceback" not in chatting.err
    assert nowhere.run("status").code == 1
    assert engine.busy() == 0
