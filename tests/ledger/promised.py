"""Payers, honest and lying, as streams of signed pieces: what the index of evidence and the oracle are both shown."""

import random
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache

from tools.vectors.case import replaced

from tests.ledger.oracle import Acceptance as OracleAcceptance
from tests.ledger.oracle import Promise, convicts
from tests.proto.samples import ACCEPTANCE, GRANT, PAYER, TRADE, TRANSFER
from tirami.core.keys import SigningKey
from tirami.core.units import Trm, UnixMs
from tirami.ledger.lineage import Lineage
from tirami.ledger.sightings import Sightings
from tirami.proto import Acceptance, Grant, Open, Record, Trade, Transfer, decode, encode, sign
from tirami.proto.fraud import CITED, Cited, CitedKind
from tirami.verify.claim import claim_of

PROVIDERS = 3
WHO = PAYER.public_key
KINDS: dict[type[Record], CitedKind] = {cls: kind for kind, cls in CITED.items()}


@cache
def cited(record: Record, signer: SigningKey = PAYER) -> Cited:
    return Cited(KINDS[type(record)], encode(record), sign(record, signer))


def acceptance(number: int, settled: int = 0, opened: dict[int, int] | None = None, **fields: object) -> Acceptance:
    sessions = tuple(Open(n, c) for n, c in sorted((opened or {}).items()))
    made: Acceptance = replaced(ACCEPTANCE, number=number, settled=settled, open=sessions, **fields)
    return made


def voucher(number: int, amount: int, **fields: object) -> Trade:
    made: Trade = replaced(TRADE, session=number, amount=amount, **fields)
    return made


def gift(number: int, amount: int, settled: int = 0, opened: dict[int, int] | None = None, **more: object) -> Transfer:
    sessions = tuple(Open(n, c) for n, c in sorted((opened or {}).items()))
    fields: dict[str, object] = {"payer": PAYER.public_key, "incarnation": 0, "open": sessions}
    made: Transfer = replaced(TRANSFER, number=number, amount=amount, settled=settled, **fields | more)
    return made


def grant(number: int, limit: int, settled: int = 0, **fields: object) -> Grant:
    made: Grant = replaced(GRANT, issuer=PAYER.public_key, number=number, limit=limit, settled=settled, **fields)
    return made


def judged(pieces: Iterable[Cited]) -> str | None:
    """The oracle on one payer's pieces, and the clause of B8 (c) it leaves out: ceilings of acceptances."""
    totals: list[OracleAcceptance] = []
    debits: list[Promise] = []
    ceilings: dict[tuple[int, int], int] = {}
    for piece in pieces:
        match decode(CITED[piece.kind], piece.body):
            case Acceptance() as one:
                opened = {session.number: session.ceiling for session in one.open}
                totals.append(OracleAcceptance(one.incarnation, one.number, one.settled, opened, piece.body))
                at = one.incarnation, one.number
                ceilings[at] = max(ceilings.get(at, 0), one.ceiling)
            case Transfer() as one:
                opened = {session.number: session.ceiling for session in one.open}
                totals.append(OracleAcceptance(one.incarnation, one.number, one.settled, opened, piece.body))
                debits.append(Promise(one.incarnation, one.number, one.amount))
            case Trade() as one:
                debits.append(Promise(one.incarnation, one.session, one.amount))
    if found := convicts(totals, debits):
        return found
    lowered = any(ceilings.get((x.inc, n), 0) > c for x in totals for n, c in x.open.items())
    return "over an acceptance" if lowered else None


@dataclass
class Books:
    """What a payer keeps (B7): committed before it signs."""

    incarnation: int = 0
    number: int = 0
    settled: int = 0
    open: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Number → ceiling, last committed voucher, whose session it is."""
    lineage: Lineage = field(default_factory=Lineage)


@dataclass
class Peer:
    """What somebody remembers of a payer (:class:`~tirami.ledger.sightings.Sightings`): positions are its journal's."""

    sightings: Sightings = field(default_factory=Sightings)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    """Incarnation, number, amount."""

    def see(self, record: Record, *, claim: bool) -> None:
        said = claim_of(record)
        assert said is not None
        self.pieces.append((said.series[2], said.number, said.amount))
        self.sightings.see(WHO, *self.pieces[-1][:2], len(self.pieces), UnixMs(0), said.amount, claim=claim)

    def shown(self) -> list[tuple[int, int, int]]:
        seen = self.sightings.get(WHO)
        return [self.pieces[seq - 1] for seq in seen.shown] if seen else []


class HonestPayer:
    """Signs as B2, B7 and B9 say; crashes anywhere, is put back from old copies, meets any provider.

    A copy that is put back does not know that it is old: whoever it meets says what it remembers, before it signs.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._books, self._copies = Books(), list[Books]()
        self._peers = [Peer() for _ in range(PROVIDERS)]
        self._now = 1
        self.restarts = self.undetected = 0
        self.seen: list[Cited] = []

    def history(self, steps: int) -> list[Cited]:
        """Everything that ever reached anybody; some more than once, some never, in any order."""
        for _ in range(steps):
            self._now += 4  # faster than numbers grow
            self._draw.choice((self._accept, self._accept, self._vouch, self._vouch, self._vouch, self._close,
                               self._give, self._crash, self._restore, self._copy))()  # fmt: skip
        repeated = self.seen + [self._draw.choice(self.seen) for _ in range(len(self.seen) // 3)]
        self._draw.shuffle(repeated)
        return repeated

    def _reach(self, record: Record, provider: int | None = None) -> None:
        """A message is lost or arrives; a provider keeps, withholds, or countersigns it later. All the same here.

        What is sent to nobody in particular reaches some of them.
        """
        if self._draw.random() < 0.85:
            self.seen.append(cited(record))
            told = [provider] if provider is not None else self._draw.sample(range(PROVIDERS), PROVIDERS - 1)
            for one in told:
                self._peers[one].see(record, claim=provider is not None)

    def _open_list(self, books: Books) -> dict[int, int]:
        return {number: ceiling for number, (ceiling, _, _) in books.open.items()}

    def _accept(self) -> None:
        books = self._books
        if len(books.open) == 32:
            return
        opened, ceiling = self._open_list(books), self._draw.randint(1, 50)
        provider = self._draw.randrange(PROVIDERS)
        books.number += self._draw.randint(1, 3)
        books.open[books.number] = ceiling, 0, provider
        books.lineage.make(WHO, books.incarnation, books.number)
        if self._draw.random() < 0.1:
            return self._crash()  # committed, never sent
        made = acceptance(books.number, books.settled, opened, ceiling=ceiling, incarnation=books.incarnation)
        self._reach(made, provider)

    def _vouch(self) -> None:
        books = self._books
        if not books.open:
            return
        number = self._draw.choice(list(books.open))
        ceiling, committed, provider = books.open[number]
        amount = self._draw.randint(committed, ceiling)
        if not amount:
            return
        books.open[number] = ceiling, amount, provider
        if self._draw.random() < 0.1:
            return self._crash()
        # a provider may countersign any voucher it ever got, an old one too: the same bytes under the payer's name
        self._reach(voucher(number, amount, incarnation=books.incarnation), provider)

    def _close(self) -> None:
        books = self._books
        if books.open:
            number = self._draw.choice(list(books.open))
            books.settled += books.open.pop(number)[1]

    def _give(self) -> None:
        books, amount = self._books, self._draw.randint(1, 50)
        settled, opened = books.settled, self._open_list(books)
        books.number += 1
        books.settled += amount
        books.lineage.make(WHO, books.incarnation, books.number)
        self._reach(gift(books.number, amount, settled, opened, incarnation=books.incarnation))

    def _crash(self) -> None:
        """Every open session is closed at its last committed voucher; the next number is a fresh one (B9)."""
        known, books = self._books.incarnation, self._books
        self._start()
        assert self._books.incarnation == known, "what it has is all it ever signed"
        assert self._books is books

    def _start(self) -> None:
        books = self._books
        for number, (_, committed, _) in list(books.open.items()):
            books.lineage.break_off(WHO, books.incarnation, number, Trm(committed))
        while books.open:
            self._close()
        books.number = max(books.number, self._now)
        self._meet()

    def _meet(self) -> None:
        """Everybody shows what it remembers; what this journal did not make was signed by another copy of it."""
        books = self._books
        shown = [piece for peer in self._peers for piece in peer.shown()]
        strange = [piece for piece in shown if piece[0] >= books.incarnation and not books.lineage.made(WHO, *piece)]
        if strange:
            self._books = Books(max(self._now, 1 + max(piece[0] for piece in strange)))
            self.restarts += 1

    def _copy(self) -> None:
        self._copies.append(deepcopy(self._books))

    def _restore(self) -> None:
        """An old copy comes back. Nothing that was signed since has reached anybody, or it is told."""
        if self._copies:
            before = self.restarts
            self._books = deepcopy(self._draw.choice(self._copies))
            self._start()
            self.undetected += self.restarts == before


class Forgetful(HonestPayer):
    """Takes a session it closes for unpaid, as the books were first written: provably false once a voucher is shown."""

    def _close(self) -> None:
        if self._books.open:
            del self._books.open[self._draw.choice(list(self._books.open))]


def lying_history(draw: random.Random) -> list[Cited]:
    """Anything a payer could sign, mostly nearly true: small numbers, amounts and open lists."""
    pieces = []
    truth: dict[int, int] = {}
    for _ in range(draw.randint(2, 14)):
        number, incarnation = draw.randint(1, 8), draw.choice((0, 0, 0, 1))
        opened = {draw.randint(1, 8): draw.randint(0, 9) for _ in range(draw.randint(0, 3))}
        covered = sum(amount for key, amount in truth.items() if key < number and key not in opened)
        settled = max(0, covered + draw.choice((-3, -1, 0, 0, 1, 5, 40)))
        match draw.randint(0, 5):
            case 0 | 1 | 2:
                amount = draw.randint(1, 9)
                truth[number] = max(truth.get(number, 0), amount)
                pieces.append(cited(voucher(number, amount, incarnation=incarnation)))
            case 3 | 4:
                ceiling = draw.randint(1, 9)
                pieces.append(cited(acceptance(number, settled, opened, ceiling=ceiling, incarnation=incarnation)))
            case _:
                amount = draw.randint(1, 9)
                truth[number] = max(truth.get(number, 0), amount)
                pieces.append(cited(gift(number, amount, settled, opened, incarnation=incarnation)))
    return pieces
