"""``tirami chat``: ask the running node, or a private one that starts for the occasion."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tirami.api.schemas import ChatCompletionRequest
from tirami.cli.conversation import Bill, Question, Speaker
from tirami.cli.download import DownloadBar
from tirami.cli.interrupts import interrupts
from tirami.cli.options import DataDir, Json, Offline, Token, Url
from tirami.cli.settings import settings
from tirami.cli.target import connect, data_directory, names_a_node
from tirami.cli.terminal import Terminal
from tirami.core.errors import EngineFailed, TiramiError
from tirami.sdk import Tirami

Prompt = Annotated[str | None, typer.Argument(help="A question; a conversation if absent.")]
ModelName = Annotated[
    str | None, typer.Option("--model", "-m", help="Model.  [what the node serves; without a node, infer.model]")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens of an answer.")]
Temperature = Annotated[float, typer.Option("--temperature", "-t", min=0.0, max=2.0)]
System = Annotated[str | None, typer.Option("--system", help="Instruction before the conversation.")]


class RemoteNode:
    """A node behind its API."""

    def __init__(self, client: Tirami, model: str | None) -> None:
        self._client = client
        served = client.models().data
        self.model = model or (served[0].id if served else None)
        self.bill: Bill | None = None

    def ask(self, question: Question) -> Iterator[str]:
        self.bill = None
        body = ChatCompletionRequest.model_validate(
            {
                "model": self.model,
                "messages": [dict(message) for message in question.messages],
                "max_tokens": question.max_tokens,
                "temperature": question.temperature,
                "stream_options": {"include_usage": True},
            }
        )
        reason = "stop"
        for chunk in self._client.stream_chat(body):
            for choice in chunk["choices"]:
                reason = choice["finish_reason"] or reason
                if text := choice["delta"].get("content"):
                    yield text
            if usage := chunk.get("usage"):
                extension = chunk["x_tirami"]
                self.bill = Bill(
                    cost_trm=extension["trm_cost"],
                    balance_trm=extension["effective_balance"],
                    trade_id=extension["trade_id"],
                    prompt_tokens=usage["prompt_tokens"],
                    completion_tokens=usage["completion_tokens"],
                    finish_reason=reason,
                )
        if self.bill is None:
            raise EngineFailed("the node ended its answer without a bill")


def chat(
    prompt: Prompt = None,
    model: ModelName = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.7,
    system: System = None,
    offline: Offline = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Ask one question, or hold a conversation (quit, exit or end of input ends it)."""
    terminal = Terminal(json_output)
    history = [{"role": "system", "content": system}] if system else []
    with _speaker(url, token, data_dir, model, terminal, offline=offline) as speaker:
        if prompt is not None:
            question = Question([*history, {"role": "user", "content": prompt}], max_tokens, temperature)
            _answer(speaker, question, terminal)
            return
        converse(speaker, history, max_tokens, temperature, terminal)


@contextmanager
def _speaker(
    url: str | None, token: str | None, data_dir: Path | None, model: str | None, terminal: Terminal, *, offline: bool
) -> Iterator[Speaker]:
    """The named or running node; else a private one on the same data directory, with no port."""
    directory = data_directory(data_dir)
    if names_a_node(url, directory):
        with connect(url, token, data_dir) as client:
            yield RemoteNode(client, model)
        return
    from tirami.cli.host import PrivateNode  # a whole node: only who runs one imports it

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = {
        "infer.model": model,
        "infer.offline": offline or None,
        "log.file": str(directory / "node.log"),
        "mesh.enabled": False,  # nobody here asked to meet, or to serve, other nodes
    }
    config = settings(None, directory, flags)
    with DownloadBar(terminal.err, config.infer.model) as bar, PrivateNode.open(config, bar) as private:
        if private.model is None:
            raise EngineFailed(f"no model: {private.problem}")
        yield private


def _answer(speaker: Speaker, question: Question, terminal: Terminal) -> str:
    """Print an answer as it comes and its bill on stderr; returns the text."""
    began, pieces = time.monotonic(), []
    with interrupts() as check:
        for piece in speaker.ask(question):
            pieces.append(piece)
            if not terminal.json_output:
                terminal.out.print(piece, end="", markup=False)
            check()
    seconds, bill = time.monotonic() - began, speaker.bill
    assert bill is not None
    text = "".join(pieces)
    facts = {
        "text": text,
        "model": speaker.model,
        "seconds": round(seconds, 3),
        "trm_cost": bill.cost_trm,
        "effective_balance": bill.balance_trm,
        "trade_id": bill.trade_id,
        "prompt_tokens": bill.prompt_tokens,
        "completion_tokens": bill.completion_tokens,
        "finish_reason": bill.finish_reason,
    }
    terminal.show(facts, lambda console: console.print())
    if not terminal.json_output:
        rate = bill.completion_tokens / seconds if seconds else 0.0
        terminal.note(f"— {bill.cost_trm} TRM · {bill.completion_tokens} tokens in {seconds:.2f}s ({rate:.0f}/s)")
    return text


def converse(
    speaker: Speaker, history: list[dict[str, str]], max_tokens: int, temperature: float, terminal: Terminal
) -> None:
    """Ask line by line until the input ends."""
    terminal.note(f"Tirami · {speaker.model or 'models of peers'} · quit or Ctrl-D ends")
    while True:
        try:
            line = input("" if terminal.json_output else "> ").strip()
        except EOFError:
            return
        if line in ("quit", "exit"):
            return
        if not line:
            continue
        messages = [*history, {"role": "user", "content": line}]
        try:
            text = _answer(speaker, Question(messages, max_tokens, temperature), terminal)
        except TiramiError as error:
            terminal.fail(error)
            continue
        history[:] = [*messages, {"role": "assistant", "content": text}]
