"""The one place of the command line that builds a node in this process; everything else speaks HTTP to one."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tirami.api.schemas import ModelReport, ModelsReply, RemovedModel
from tirami.cli.banner import Running
from tirami.cli.conversation import Bill, Question
from tirami.cli.download import Progress
from tirami.core.clock import SystemClock
from tirami.core.config import Config
from tirami.net import PeerAddress
from tirami.node import Node, configure_logs, newcomer
from tirami.node.archive import is_sealed
from tirami.node.backup import Restored, back_up, offline_copy, prove, restore
from tirami.node.chat import ChatCall
from tirami.node.models import list_models, pull_model, remove_model
from tirami.node.soundness import unsound as unsound

LOOK_S = 0.05
MEETING_S = 10.0
"""How long whoever starts a conversation waits until a seed is connected,"""
OFFER_S = 60.0
"""and until one that is has an offer: it tries its model first, which takes a while on a slow machine."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    config: Config, *, progress: Progress | None, ready: Callable[[Running], None], told: Callable[[str], None]
) -> None:
    """Run a node until a signal asks it to stop; its state is saved when this returns.

    Args:
        config: what the node is told.
        progress: called with (bytes done, bytes in all) while a model is fetched.
        ready: called once, when the node serves.
        told: called with what comes of the invitation it was started with.

    Raises:
        StartError: the node does not start.
    """
    configure_logs(config.log)
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(_serve(config, progress, ready, told))


def settle_in(
    invitation: str, config: Config, chosen: Mapping[str, bool | str], named: Path | None = None
) -> Path | None:
    """See :func:`tirami.node.newcomer.settle_in`."""
    return newcomer.settle_in(invitation, config, chosen, named)


def inviter(invitation: str) -> str:
    """See :func:`tirami.node.newcomer.inviter`."""
    return newcomer.inviter(invitation)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop this platform has; ``None`` for the standard library's."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    config: Config, progress: Progress | None, ready: Callable[[Running], None], told: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    with _signals(stop) as opening:
        try:
            async with Node.open(config, progress=progress) as node:
                opening.clear()
                ready(_facts(node))
                async with _arriving(node, told):
                    await node.run_until(stop)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise


@asynccontextmanager
async def _arriving(node: Node, told: Callable[[str], None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Tell what comes of the invitation this node was started with, until left."""

    async def tell() -> None:
        if node.mesh is not None:
            async for line in node.mesh.finding.guests.arrival.told():
                told(line)

    telling = asyncio.create_task(tell(), name="arrival")
    try:
        yield telling
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def _facts(node: Node) -> Running:
    mesh = str(node.mesh.mesh.address()) if node.mesh is not None else None
    return Running(node.url or "", node.identity.hex(), node.model_name, node.model_problem, mesh)


def peers_of(texts: Sequence[str]) -> list[PeerAddress]:
    """``KEY``, ``KEY@IP:PORT`` or ``KEY@RELAY`` each. Raises ``InvalidField``."""
    return [PeerAddress.parse(text) for text in texts]


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[set["asyncio.Task[None]"]]:
    """Set ``stop`` on a signal; tasks in the yielded set, this one at first, are cancelled as well."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    waiting = {task}

    def end() -> None:
        if stop.is_set():  # asked twice: what is acknowledged is durable, so leaving at once loses nothing
            os._exit(128 + signal.SIGINT)
        stop.set()
        for opening in waiting:
            opening.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, end)
    try:
        yield waiting
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


class PrivateNode:
    """A node of this process, without a port unless it is to have one, for the person at this terminal. Made by
    :meth:`open`."""

    def __init__(self, portal: BlockingPortal, node: Node) -> None:
        self._portal = portal
        self._node = node
        self.bill: Bill | None = None

    @classmethod
    @contextmanager
    def open(cls, config: Config, progress: Progress | None, *, serve: bool = False) -> Iterator[Self]:
        """``serve``: whether to answer HTTP as well. Raises ``StartError``."""
        configure_logs(config.log)
        with start_blocking_portal() as portal:
            opened: AbstractContextManager[Node] = portal.wrap_async_context_manager(
                Node.open(config, progress=progress, serve=serve)
            )
            with opened as node:
                yield cls(portal, node)

    @property
    def model(self) -> str | None:
        return self._node.model_name

    @property
    def problem(self) -> str | None:
        """Why there is no model."""
        return self._node.model_problem

    @property
    def facts(self) -> Running:
        return _facts(self._node)

    def obstacle(self, told: Callable[[str], None]) -> str | None:
        """Wait for a peer this node would buy from, and for funds to do so; what is in the way where that takes long.

        A seed that is not reached is soon given up; one that is there may first have to measure its model.

        Args:
            told: called with what comes of the invitation this node was started with.
        """
        return self._portal.call(self._obstacle, told)

    async def _obstacle(self, told: Callable[[str], None]) -> str | None:
        parts, loop = self._node.parts, asyncio.get_running_loop()
        mesh, began = self._node.mesh, loop.time()
        invited = mesh is not None and mesh.finding.guests.arrival.begun
        async with _arriving(self._node, told) as arriving:
            while (view := parts.membership.view) is not None:
                sells, funds = bool(view.sellers(None)), parts.ledger.balance(parts.key.public_key).effective > 0
                if sells and funds:
                    return None
                if invited and arriving.done() and not funds:
                    return "this node has no credit"
                if loop.time() - began > (OFFER_S if view.connected else MEETING_S):
                    return view.obstacle() or "this node has no credit yet"
                await asyncio.sleep(LOOK_S)
        return "this node is not on the mesh"

    def models(self) -> ModelsReply:
        """What lies on this machine, and the catalogue."""
        return self._portal.call(list_models, self._node.parts.engines)

    def pull(self, name: str, progress: Progress) -> ModelReport:
        """Fetch a model and wait. Raises ``ModelNotFound``, ``ModelLoadError``, ``ModelDigestMismatch``."""
        return self._portal.call(pull_model, self._node.parts.engines, name, progress)

    def remove(self, name: str) -> RemovedModel:
        """Delete a model's files. Raises ``ModelNotFound``."""
        return self._portal.call(remove_model, self._node.parts.engines, name)

    def ask(self, question: Question) -> Iterator[str]:
        """Pieces of the answer as they come; ``bill`` is set afterwards. Leaving early bills what was delivered."""
        self.bill = None
        pieces: SimpleQueue[str | None] = SimpleQueue()
        answer = self._portal.start_task_soon(self._answer, question, pieces)
        try:
            while (piece := pieces.get()) is not None:
                yield piece
        except BaseException:
            answer.cancel()
            while pieces.get() is not None:  # settled when the end arrives
                pass
            raise
        self.bill = answer.result()

    async def _answer(self, question: Question, pieces: "SimpleQueue[str | None]") -> Bill:
        try:
            return await self._stream(question, pieces)
        finally:
            pieces.put(None)

    async def _stream(self, question: Question, pieces: "SimpleQueue[str | None]") -> Bill:
        parts = self._node.parts
        call = ChatCall(
            payer=parts.payers.owner,
            model=None,
            messages=question.messages,
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            top_p=1.0,
            top_k=0,
            seed=None,
            request_id=f"chat-{secrets.token_hex(8)}",
        )
        async with await parts.chat.stream(call) as stream:
            async for chunk in stream:
                pieces.put(chunk.text)
            settled = await stream.settle()
        return Bill(
            cost_trm=settled.cost,
            balance_trm=parts.ledger.balance(stream.ticket.payer.key).effective,
            trade_id=settled.record_id.hex() if settled.record_id else None,
            prompt_tokens=settled.bill.prompt_tokens if settled.bill else 0,
            completion_tokens=settled.bill.completion_tokens if settled.bill else 0,
            finish_reason=settled.reason.value,
        )


def archive_node(
    config: Config, copies: Path | None, target: Path, passphrase: str | None, *, overwrite: bool
) -> dict[str, object]:
    """Write the backup of the node in the data directory.

    Args:
        copies: what the running node laid down; ``None`` when none runs.
        passphrase: ``None`` writes an archive that anybody can read.

    Raises:
        StartError: the reason there is no backup.
    """
    source = offline_copy(config) if copies is None else nullcontext(copies)
    with source as directory:
        now_ms = SystemClock().now_ms()
        manifest = back_up(config.data_dir, directory, target, passphrase, now_ms, overwrite=overwrite)
    return {
        "file": str(target.absolute()),
        "bytes": target.stat().st_size,
        "node": manifest.node,
        "sealed": passphrase is not None,
        "files": {name: member.size for name, member in manifest.files.items()},
    }


def restore_node(archive: Path, ask: Callable[[], str], config: Config, *, force: bool, only_prove: bool) -> Restored:
    """Put the node of an archive into the data directory, or only prove that this would work.

    Args:
        ask: called for the passphrase when the archive is sealed.

    Raises:
        StartError: the reason it stays where it is.
    """
    passphrase = ask() if is_sealed(archive) else None
    if only_prove:
        return asyncio.run(prove(archive, passphrase, config, SystemClock()))
    return asyncio.run(restore(archive, passphrase, config, SystemClock(), force=force))
