"""The node's state: one pure ``apply`` over journal entries (I-15: state = fold(journal))."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tirami.core.units import Flop, Trm, UnixMs
from tirami.ledger.accounts import key_account, local_account
from tirami.ledger.admission import LOCAL, NETWORK, Admitted, allowance_rule, read
from tirami.ledger.book import Book
from tirami.ledger.claims import Claims
from tirami.ledger.columns import U32, Column
from tirami.ledger.earnings import Earnings
from tirami.ledger.entries import (
    BreakerTripped,
    Claim,
    ClaimDropped,
    ClaimOpened,
    ClaimSettled,
    ClaimVouched,
    Entry,
    Hold,
    HoldCaptured,
    HoldFailed,
    HoldOpened,
    HoldOwed,
    HoldReleased,
    HoldVouched,
    JournalOpened,
    KeyRotated,
    RestartSeen,
    SignedElsewhere,
)
from tirami.ledger.holds import Holds
from tirami.ledger.lineage import Lineage
from tirami.ledger.log import MerkleLog
from tirami.ledger.outlays import Outlays
from tirami.ledger.records import EntrySource, Nowhere, Records, StoredRecord
from tirami.ledger.settings import Settings
from tirami.ledger.sightings import Sightings
from tirami.ledger.succession import Succession
from tirami.ledger.usage import Usage
from tirami.proto import (
    Cited,
    Envelope,
    Grant,
    NetworkFile,
    Rotation,
    SignedBody,
    Trade,
    Transfer,
    cited_in,
    decode,
    leaf,
    parties,
)

K = TypeVar("K", bytes, str)
QUOTA = b"quota"
"""Prefix under which an issuer's grants are numbered, apart from what it pays as a node."""


@dataclass(slots=True)
class Totals:
    """Running sums over trades of one scope."""

    trades: int = 0
    volume: Trm = Trm(0)
    flop: Flop = Flop(0)
    tokens: int = 0
    parties: set[bytes] = field(default_factory=set)

    def add(self, trade: Trade) -> None:
        self.trades += 1
        self.volume = Trm(self.volume + trade.amount)
        self.flop = Flop(self.flop + trade.flop)
        self.tokens += trade.completion_tokens
        self.parties.update((trade.payer, trade.provider))


class State:
    """Book, holds, settings, log and indexes; changed by :meth:`apply` and nothing else.

    About 220 bytes a record: bodies are read again from ``source``, the journal they came from.
    """

    def __init__(self, network: NetworkFile, source: EntrySource | None = None) -> None:
        self.network = network
        self.book = Book(allowance_rule(network))
        self.holds = Holds()
        self.claims = Claims()
        self.settings = Settings()
        self.lineage = Lineage()
        self.sightings = Sightings()
        self.succession = Succession()
        self.log = MerkleLog()
        self.records = Records(self.log, self.book.ids, source or Nowhere())
        self.network_totals = Totals()
        self.local_totals = Totals()
        self.usage = Usage()
        self.earnings = Earnings()
        self.outlays = Outlays()
        self.line_due: dict[bytes, UnixMs] = {}
        self._by_party: dict[bytes, Column] = {}
        self._by_kind: dict[str, Column] = {}
        self._trades_of: Counter[bytes] = Counter()

    def apply(self, entry: Entry, admitted: Admitted | None = None) -> None:
        """Fold one entry in. ``admitted`` spares a second decoding of a record that was just checked."""
        content, at_ms = entry.content, UnixMs(entry.at_ms)
        match content:
            case Envelope():
                self._apply_record(entry.seq, at_ms, admitted or read(content, self.network))
            case HoldOpened() | HoldVouched() | HoldCaptured() | HoldReleased() | HoldFailed() | HoldOwed():
                self._apply_hold(content, at_ms)
            case ClaimOpened() | ClaimVouched() | ClaimSettled() | ClaimDropped():
                self._apply_claim(content, entry.seq, at_ms)
            case BreakerTripped():
                self.holds.kept(content.account).breaker.trip(content.cause, at_ms)
            case SignedElsewhere():
                self.lineage.elsewhere(content.account, content.incarnation, content.number, at_ms)
            case KeyRotated():
                order = SignedBody(content.body, content.signature)
                self.succession.add(decode(Rotation, content.body), order)
            case RestartSeen():
                self.sightings.see(content.payer, content.incarnation, content.number, entry.seq, at_ms)
            case JournalOpened():
                former = self.settings.opened
                self.settings.apply(content, entry.seq, at_ms)
                if former is not None and former.node != content.node:
                    self.lineage.give_up(former.node)
            case _:
                self.settings.apply(content, entry.seq, at_ms)
                if (started := self.settings.started) is content:
                    self.holds.start(started.number_floor, started.incarnation)
                    self.lineage.start(started.incarnation, at_ms)

    def stored(self, record_id: bytes) -> StoredRecord | None:
        index = self.book.ids.find(record_id)
        return None if index is None else self.records[index]

    def trades_of(self, party: bytes) -> int:
        """How many trades name this key."""
        return self._trades_of[party]

    def newest_first(self, party: bytes | None, before: int | None) -> Iterator[StoredRecord]:
        """Records, newest first, with leaf index < ``before``; of one party when given."""
        return self._newest(range(len(self.records)) if party is None else self._by_party.get(party, ()), before)

    def newest_of_kind(self, kind: str, before: int | None) -> Iterator[StoredRecord]:
        """Records of one kind (of their envelope), newest first, with leaf index < ``before``."""
        return self._newest(self._by_kind.get(kind, ()), before)

    def first_booked_at(self, at_ms: int) -> int:
        """The first leaf booked at or after a time; the size of the log when there is none. O(log n) reads."""
        return bisect_left(range(len(self.records)), at_ms, key=lambda leaf: self.records[leaf].at_ms)

    def _newest(self, leaves: Sequence[int], before: int | None) -> Iterator[StoredRecord]:
        end = len(leaves) if before is None else bisect_left(leaves, before)
        return (self.records[leaves[i]] for i in range(end - 1, -1, -1))

    def _apply_hold(self, content: Hold, at_ms: UnixMs) -> None:
        session = self.holds.open.get(content.id)
        self.holds.apply(content, at_ms)
        self.outlays.apply(content, session, at_ms)
        self.settings.approvals.follow(content, session)
        match content:
            case HoldOpened(scope=scope) if scope == NETWORK:
                self.lineage.make(content.account, content.incarnation, content.number)
            case HoldCaptured() | HoldOwed() | HoldReleased() if session is not None and session.left:
                opened, amount = session.opened, 0 if isinstance(content, HoldReleased) else content.amount
                self.lineage.break_off(opened.account, opened.incarnation, opened.number, Trm(amount))

    def _apply_claim(self, content: Claim, seq: int, at_ms: UnixMs) -> None:
        self.claims.apply(content, at_ms)
        if isinstance(content, ClaimOpened | ClaimVouched):
            claim = self.claims.open[content.id]
            opened = claim.opened
            self.sightings.see(opened.payer, opened.incarnation, opened.number, seq, at_ms, claim.amount, claim=True)

    def _apply_record(self, seq: int, at_ms: UnixMs, admitted: Admitted) -> None:
        if admitted.record_id in self.book:
            return
        body = admitted.body
        index = self.log.append(leaf(admitted.envelope))
        self.records.add(seq)
        self.book.add(admitted.record_id, admitted.demand)
        self._index(self._by_kind, admitted.envelope.kind, index)
        for party in set(parties(body)):  # an issuer's own line has one
            self._index(self._by_party, party, index)
        match body:
            case Trade():
                self._trades_of.update((body.payer, body.provider))
                (self.local_totals if body.scope == LOCAL else self.network_totals).add(body)
                self._use(body, at_ms)
                if body.scope == NETWORK:
                    self._number(seq, at_ms, body.payer, body.incarnation, body.session, body.amount)
            case Transfer():
                self._number(seq, at_ms, body.payer, body.incarnation, body.number)
                self.holds.debited(body.payer, body.number, Trm(body.amount), at_ms)
            case Grant():
                self.line_due[body.to] = max(self.line_due.get(body.to, UnixMs(0)), UnixMs(body.due_ms))
                self._number(seq, at_ms, QUOTA + body.issuer, body.incarnation, body.number)
                books = self.holds.kept(QUOTA + body.issuer)
                books.last_number = max(books.last_number, body.number)

    def _use(self, trade: Trade, at_ms: UnixMs) -> None:
        """Usage of this node's own accounts; what strangers do among themselves is not counted."""
        if trade.scope == LOCAL or self.is_own(trade.payer):
            self.usage.spend(trade.payer, at_ms, trade)
        if trade.scope != LOCAL and self.is_own(trade.provider):
            self.usage.earn(trade.provider, at_ms, trade)
            self.earnings.earn(at_ms, trade)

    def _number(self, seq: int, at_ms: UnixMs, account: bytes, incarnation: int, number: int, settled: int = 0) -> None:
        """Note a numbered debit; of an own account, whether this journal made it: in a session, or as its next."""
        self.sightings.see(account, incarnation, number, seq, at_ms, settled)
        lineage, key = self.lineage, account.removeprefix(QUOTA) if len(account) > 32 else account
        if not self.is_own(key) or lineage.made(account, incarnation, number, settled):
            return
        if not settled and (incarnation, number) == (self.holds.incarnation, self.holds.next_number(account)):
            lineage.make(account, incarnation, number)
        elif more := lineage.elsewhere(account, incarnation, number, at_ms, settled):
            books = self.holds.kept(account)
            books.settled = Trm(books.settled + more)

    def last_signed(self, account: bytes) -> tuple[int, int, list[Cited]]:
        """The highest (incarnation, number) seen of an account; what says so, and what it signed last in a session.

        Raises ``StorageUnavailable``, ``JournalCorrupt``.
        """
        seen = self.sightings.get(account)
        if seen is None:
            return 0, 0, []
        return seen.incarnation, seen.number, [self._signed_at(seq) for seq in seen.shown]

    def _signed_at(self, seq: int) -> Cited:
        match self.records.entry(seq).content:
            case Envelope() as envelope:
                return cited_in(envelope)[-1]
            case ClaimVouched() as vouched:
                return Cited("trade", vouched.trade_body, vouched.payer_signature)
            case ClaimOpened() | RestartSeen() as seen_in:
                return Cited("acceptance", seen_in.acceptance, seen_in.acceptance_signature)
        raise AssertionError("nothing else is a sighting")

    def credit_is_young(self, account: bytes, now_ms: int) -> bool:
        """Whether a stranger began a new incarnation so lately that it gets no credit (B9).

        Of its own payers a node knows in which one they are; what they can buy elsewhere is for that provider to say.
        """
        return not self.is_own(account) and self.sightings.young(account, now_ms)

    def is_own(self, key: bytes) -> bool:
        """Whether this node signs for it on the network."""
        opened = self.settings.opened
        return key in self.settings.accounts or (opened is not None and key == opened.node)

    @staticmethod
    def _index(columns: dict[K, Column], key: K, leaf: int) -> None:
        column = columns.get(key)
        if column is None:
            column = columns[key] = Column(U32)
        column.append(leaf)

    def net(self, key: bytes, *, local: bool) -> Trm:
        return self.book.net(local_account(key) if local else key_account(key))
