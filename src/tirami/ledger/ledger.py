"""The ledger: the one place where money is promised and moved.

A thin shell around the pure state: it reads the clock, writes the journal and applies what it wrote. Everything
between a gate and the hold it admits happens in one step of the event loop, so no interleaving of requests can
spend a budget twice (I-19). Callers await durability before they tell anybody.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import (
    InvalidProof,
    InvalidSignature,
    JournalCorrupt,
    NetworkFileError,
    StartError,
    StorageUnavailable,
    TiramiError,
)
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.core.units import Trm, UnixMs
from tirami.ledger.accounts import key_account
from tirami.ledger.admission import Admitted, admit
from tirami.ledger.answers import Asked
from tirami.ledger.entries import (
    Content,
    Entry,
    Fact,
    FraudProven,
    HeadPublished,
    JournalOpened,
    KeyRotated,
    KillSet,
    NodeStarted,
)
from tirami.ledger.gate import Gate
from tirami.ledger.holds import PayerBooks
from tirami.ledger.journal import SCHEMA_VERSION, Journal
from tirami.ledger.payables import Payables
from tirami.ledger.receivables import Receivables
from tirami.ledger.restarts import Restarts
from tirami.ledger.settings import Conviction
from tirami.ledger.snapshot import SnapshotFile
from tirami.ledger.snapshots import Snapshots
from tirami.ledger.state import State
from tirami.proto import Envelope, Head, NetworkFile, Rotation, decode

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays: a key that can sign, and the scope of what it signs (0 network, 1 local).

    ``permit`` is the id of the approval it shows for a spend above its threshold; empty for none.
    """

    key: PublicKey
    signer: Signer
    scope: int
    permit: bytes = b""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has, in TRM. ``effective`` is what it could promise now; negative for the owner's own use."""

    income: Trm
    spent: Trm
    net: Trm
    reserved: Trm
    credit_limit: Trm
    credit_drawn: Trm
    effective: Trm


class Ledger:
    """Open with :meth:`open`, start with :meth:`start`, end with :meth:`close`."""

    def __init__(
        self,
        journal: Journal,
        snapshots: SnapshotFile,
        network: NetworkFile,
        node: Signer,
        local_user: PublicKey,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._snapshots = Snapshots(snapshots, journal, lambda: self.state)
        self._clock = clock
        self._node = node
        self._local_user = local_user
        self._degraded = False
        self._latest = 0
        self._on_kill: list[Callable[[], None]] = []
        self._on_record: list[Callable[[], None]] = []
        self._on_barred: list[Callable[[bytes], None]] = []
        self.network = network
        self.state = State(network, journal)
        self.gate = Gate(lambda: self.state, self.now, node.public_key, local_user, self._write)
        self.payables = Payables(self, node)
        self.receivables = Receivables(self, node)
        self.restarts = Restarts(self, node.public_key)
        self.checked_ms = UnixMs(0)
        """When Σ was last added up anew."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        network: NetworkFile,
        node: Signer,
        local_user: PublicKey,
        clock: Clock,
        journal_key: bytes,
        accept_rollback: bool = False,
    ) -> Self:
        """Re-hash the whole journal, up to the head this node signed last, and fold what its snapshot does not hold.

        Raises ``JournalCorrupt``, ``JournalRollback``, ``NetworkFileError``.
        """
        journal = Journal.open(path, journal_key, accept_rollback=accept_rollback)
        snapshots = SnapshotFile(path.with_suffix(".snapshot"), journal_key, network)
        ledger = cls(journal, snapshots, network, node, local_user, clock)
        try:
            ledger._fold()
        except BaseException:
            journal.abandon()
            raise
        return ledger

    async def start(self, random: Callable[[int], bytes]) -> None:
        """Begin to write: open the journal if new, note the start, settle what a crash left open."""
        await self._journal.start(self._recover)
        self.gate.random = random
        now, network_hash = self.now(), self.network.hash
        own, opened, previous = self._node.public_key, self.state.settings.opened, self.state.settings.started
        log_id, incarnation = (previous.log_id, previous.incarnation) if previous else (random(16), 0)
        opening: list[Content] = []
        if opened is None or opened.node != own:
            opening = [JournalOpened(SCHEMA_VERSION, own, self.network.id, network_hash)]
            log_id = random(16)  # under another key it is another log
        if self._journal.rolled_back:  # what was signed after this copy was made is unknown: begin anew (B9)
            log_id, incarnation = random(16), max(incarnation + 1, now)
        await self.append([*opening, NodeStarted(now, incarnation, log_id, network_hash)])
        self.restarts.follow()
        for hold_id in list(self.state.holds.open):
            await self.payables.end_session(hold_id, "restarted")
        for claim_id in list(self.state.claims.open):
            await self.receivables.settle(claim_id, "restarted")
        self.check_balance()

    async def close(self) -> None:
        await self._snapshots.close()
        await self._journal.close()
        self.payables.close()

    def copy_to(self, target: Path) -> None:
        """A consistent copy of the journal's database while this one goes on; for a thread of its own."""
        self._journal.copy_to(target)

    # --- time, journal -----------------------------------------------------------------------------------------

    def now(self) -> UnixMs:
        """Unix milliseconds that never run backwards: a clock set back stands still here until it has caught up."""
        self._latest = max(self._latest, self._clock.now_ms(), self._journal.last_ms)
        return UnixMs(self._latest)

    @property
    def ahead_ms(self) -> int:
        """How far that time stands before the clock now, because the clock once stood there."""
        return max(0, self._latest - self._clock.now_ms(), self._journal.last_ms - self._clock.now_ms())

    @property
    def seq(self) -> int:
        """Journal position of the newest entry."""
        return self._journal.seq

    @property
    def writable(self) -> bool:
        """Whether the next entry is likely to be written: the last one was, and the journal takes another."""
        return not self._degraded and self._journal.accepting

    async def ended(self) -> NoReturn:
        """Wait for as long as the journal is written. Raises ``StorageUnavailable`` when that is over until a start."""
        await self._journal.ended()

    def append(self, contents: Sequence[Content], admitted: Admitted | None = None) -> Awaitable[None]:
        """Write entries as one group and apply them; the awaitable ends when they are durable.

        Raises ``StorageUnavailable``, at once or when awaited; then nothing of the group has happened.
        """
        self._check_storage()
        at_ms = self.now()
        written = self._journal.append(contents, at_ms)
        seq = self._journal.seq - len(contents)
        for offset, content in enumerate(contents, start=1):
            known = admitted if isinstance(content, Envelope) else None
            self.state.apply(Entry(seq + offset, at_ms, content), known)
        self._snapshots.follow()
        if any(isinstance(content, Envelope) for content in contents):
            self.restarts.follow()
            for tell in self._on_record:
                tell()
        for key in filter(None, map(_barred, contents)):
            for end in self._on_barred:
                end(key)
        return written

    async def durable(self) -> bool:
        """Wait until everything applied so far is on disk: ``True``; or has been taken back: ``False``, read again."""
        try:
            await self._journal.barrier()
        except StorageUnavailable:
            return False
        return True

    async def kept(self) -> None:
        """Wait until everything applied so far is on disk.

        Raises ``StorageUnavailable`` when it is not: something was taken back, or cannot be, because the way back to
        what is durable failed.
        """
        await self._journal.barrier()
        if not self._journal.accepting:
            raise StorageUnavailable("the journal is not what is known here", retry_after=5)

    def _write(self, fact: Fact) -> None:
        self.append([fact])

    async def record_facts(self, *facts: Fact) -> None:
        await self.append(facts)

    def _check_storage(self) -> None:
        if self._degraded:
            if not self._journal.writable():
                raise StorageUnavailable("the journal cannot be written; selling has stopped", retry_after=5)
            self._degraded = False

    def _recover(self) -> None:
        """The disk refused a group: go back to what is durable, stop selling until writing works again.

        Runs in the writer's thread: what came after the newest snapshot is folded, while the event loop goes on.
        """
        self._degraded = True
        try:
            self._fold(again=True)
        except StartError as error:
            self.gate.halted = error.message

    def _fold(self, *, again: bool = False) -> None:
        snapshot = self._snapshots.read()
        state, after = (snapshot.state, snapshot.seq) if snapshot else (State(self.network, self._journal), 0)
        for entry in self._journal.replay(after, again=again):
            try:
                state.apply(entry)
            except (InvalidProof, InvalidSignature) as error:
                raise NetworkFileError(
                    f"journal entry {entry.seq} was written under other rules than this network file's: {error}",
                    param="network.file",
                    entry=entry.seq,
                ) from error
            except (KeyError, ValueError, TiramiError) as error:
                raise JournalCorrupt(
                    f"journal entry {entry.seq} cannot be applied: {error}", entry=entry.seq
                ) from error
        opened = state.settings.opened
        own = self._node.public_key
        if opened is not None and opened.node != own and not state.succession.names(opened.node, own):
            raise JournalCorrupt(f"this journal belongs to node {opened.node.hex()}", entry=1)
        if opened is not None and opened.network != self.network.id:
            raise NetworkFileError(f"this journal belongs to network {opened.network!r}", param="network.file")
        if state.settings.head is not None:
            self._check_head(state, state.settings.head)
        self.state = state

    def _check_head(self, state: State, published: HeadPublished) -> None:
        """The log read back is the one this node signed for."""
        head = decode(Head, published.head)
        signature = Signature(published.signature)
        signed = verify(PublicKey(head.node), signature, Head.TAG + published.head)
        if not signed or head.node not in state.settings.nodes:
            raise JournalCorrupt("the last signed head is not signed by this node", entry=self._journal.seq)
        if head.size > state.log.size or state.log.root(head.size) != head.root:
            raise JournalCorrupt("the log is not the one whose head this node signed last", entry=self._journal.seq)

    # --- reading -----------------------------------------------------------------------------------------------

    def balance(self, account: PublicKey) -> Balance:
        """Balance of a key; of the local user, its local account."""
        local = account == self._local_user
        return self._balance(account, local=local)

    def own_use(self) -> Balance:
        """The node's local sub-account: what its owner's own requests would have earned it (B14)."""
        return self._balance(self._node.public_key, local=True)

    def _balance(self, account: PublicKey, *, local: bool) -> Balance:
        book = self.state.book
        net = self.state.net(account, local=local)
        limit = Trm(0) if local else self.gate.line(account)
        held = self.state.holds.held(account)
        income = Trm(0) if local else book.income(key_account(account))
        if local:
            return Balance(max(net, Trm(0)), max(Trm(-net), Trm(0)), net, held, Trm(0), Trm(0), net)
        spent = book.spent(key_account(account))
        return Balance(income, spent, net, held, limit, Trm(max(0, -net)), Trm(net + limit - held))

    # --- the kill switch ---------------------------------------------------------------------------------------

    async def set_kill(self, active: bool, reason: str, operator: str, order: int = 0, key: bytes = b"") -> int:
        """Throw or release the kill switch; returns its journal position once durable.

        Throwing acts at once, in memory, even when the disk is full; running sessions are told before the write.
        A switch whose fact could not be written stays thrown until a later fact is. ``order`` and ``key`` are those of
        an order to the mesh.
        """
        fact = KillSet(active, reason, operator, order, key)
        if active:
            self.gate.throw(fact)
            for stop in self._on_kill:
                stop()
        before = self.gate.thrown
        try:
            written = self.append([fact])
            seq = self.seq
            await written
        except StorageUnavailable as error:
            if active:
                message = "spending is frozen, but that could not be saved: a restart would lift it"
                raise StorageUnavailable(message, retry_after=error.retry_after) from error
            raise
        if self.gate.thrown is before:
            self.gate.written(fact)
        return seq

    def on_kill(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` whenever the switch is thrown."""
        self._on_kill.append(stop)

    def on_record(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever a record has been booked; it may not be durable yet."""
        self._on_record.append(tell)

    def on_barred(self, end: Callable[[bytes], None]) -> None:
        """Call ``end`` with each key that is convicted or ends, at once; that may not be durable yet."""
        self._on_barred.append(end)

    def books(self, account: bytes) -> PayerBooks:
        return self.state.holds.books(account)

    # --- records without a session -----------------------------------------------------------------------------

    def book_record(
        self, envelope: Envelope, *facts: Fact, asked: Asked | None = None
    ) -> tuple[Admitted, Awaitable[None]]:
        """Admit and book a grant, a transfer or a record from elsewhere, in one group with what its gate returned.

        It is what a request that is ``asked`` once led to.
        """
        admitted = admit(envelope, self.network)
        answered = () if asked is None else (asked.answered(admitted.record_id),)
        return admitted, self.append([*facts, *answered, envelope], admitted)

    # --- watching ----------------------------------------------------------------------------------------------

    def proof(self, conviction: Conviction) -> bytes:
        """The fraud proof, as a file that stands for itself. Blocking. Raises ``StorageUnavailable``."""
        fact = self._journal.entry(conviction.seq).content
        assert isinstance(fact, FraudProven)
        return fact.proof

    def check_balance(self) -> Trm:
        """Re-check Σ = 0 (I-01); anything else is an alarm and stops all spending, whatever the kill switch says.

        Returns the imbalance. What is stopped stays stopped until a restart has read the journal anew.
        """
        imbalance = self.state.book.imbalance()
        self.checked_ms = self.now()
        if imbalance != 0:
            _log.critical("book_out_of_balance", imbalance=imbalance)
            self.gate.halted = f"the book is out of balance by {imbalance} TRM"
        return imbalance


def _barred(content: Content) -> bytes | None:
    """The key that promises nothing any more after this entry."""
    match content:
        case FraudProven():
            return content.key
        case KeyRotated():
            return decode(Rotation, content.body).key
    return None
