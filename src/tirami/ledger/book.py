"""The book: a fold of admitted records to balances (PROTOCOL B1, B2, B4, B14).

``state = fold(records, network file)``, whatever the order, the repetition or the delay. The state is the least
fixpoint of "a debit applies when its account can cover it, and then credits its payee". Records that arrive in
order cost O(1); income wakes the waiting debits of its receiver.

What applied can lose its cover: by a late record that raises what a later debit needs (only a payer that lied about
its totals can cause that), or by a trade that takes the place of another one of its session. Checking the inequality
again would not do, because the income that now covers a debit may stem from that very debit. So every applied debit has
a turn and rests on what has a lower one. What such debits do not cover any more is taken back, account by account, and
then whatever is covered applies again, in a later turn. It costs what these accounts have, not what the book has.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256

import msgspec

from tirami.core.keys import Digest
from tirami.core.units import Trm
from tirami.ledger.accounts import BURN, ISSUANCE, Account, AccountKind
from tirami.ledger.columns import U32, Column, RecordIds, Table
from tirami.ledger.debits import Debits
from tirami.ledger.demands import Debit, Demand, Demands

AllowanceRule = Callable[[Account], Trm]
"""TRM an account may take without any income; a constant of the network file for every account."""


def _nothing() -> Trm:
    return Trm(0)


class Book:
    """Balances of all accounts, derived from the demands seen so far."""

    def __init__(self, allowance: AllowanceRule) -> None:
        self._allowance = allowance
        self._debits: dict[Account, Debits] = {}
        self._income: dict[Account, Trm] = defaultdict(_nothing)
        self._spent: dict[Account, Trm] = defaultdict(_nothing)
        self._paid: dict[Account, Table] = {}
        """Places of the applied debits that pay an account, by turn."""
        self._lines: dict[bytes, Table] = {}
        """Places of the applied grants to a key, by turn."""
        self._demands = Demands()
        self._total = Trm(0)
        self._drawn = Trm(0)
        self._local = Column(U32)
        """Places of the local trades."""
        self._hashed: dict[bool, tuple[int, Digest]] = {}
        self.withdrawn = 0
        """Debits that had applied and were taken back."""

    # --- reading -----------------------------------------------------------------------------------------------

    def income(self, account: Account) -> Trm:
        return self._income.get(account, Trm(0))

    def spent(self, account: Account) -> Trm:
        """Σ of applied debits."""
        return self._spent.get(account, Trm(0))

    def net(self, account: Account) -> Trm:
        """Net position: positive is spendable, negative is drawn credit."""
        return Trm(self.income(account) - self.spent(account))

    def limit(self, key: bytes) -> Trm:
        """The credit line of a key: the largest applied grant; grants do not add up (B4)."""
        return self._line_of(self._lines.get(key, ()))

    def known(self, account: Account) -> Trm:
        """Σ of all known debits of the account, applied or not."""
        debits = self._debits.get(account)
        return debits.known if debits else Trm(0)

    def means(self, account: Account) -> Trm:
        """Income and credit: what all debits of the account together may take."""
        return Trm(self.income(account) + self._credit(account))

    def covers(self, account: Account, debit: Debit) -> bool:
        """Whether this debit would apply at once, as far as is known (B2)."""
        return self.means(account) >= max(debit.declared, self.known(account)) + debit.amount

    def outdone(self, account: Account, debit: Debit) -> bytes | None:
        """Of this debit and a known one of the same order, the record that does not count; ``None`` without such."""
        debits = self._debits.get(account)
        rival = debits.at(debit.order) if debits else None
        if rival is None:
            return None
        return self.ids[rival] if self._demands.supersedes(debit, rival) else debit.record_id

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self.ids

    @property
    def ids(self) -> RecordIds:
        """Ids of all records, in the order in which they were added."""
        return self._demands.ids

    def is_applied(self, record_id: bytes) -> bool:
        """Whether this record moved its amount: covered, and not replaced by a later one of the same session."""
        place = self.ids.find(record_id)
        return place is not None and self._demands.applied(place)

    def balances(self) -> Mapping[Account, Trm]:
        """Every touched account with its net position; ISSUANCE and BURN included."""
        accounts = set(self._income) | set(self._spent) | {ISSUANCE, BURN}
        return {account: self.net(account) for account in accounts}

    def imbalance(self) -> Trm:
        """Σ over all accounts, added up anew. Zero, always (I-01); anything else halts the node. O(accounts)."""
        return Trm(sum(self._income.values()) - sum(self._spent.values()))

    @property
    def total(self) -> Trm:
        """Running sum of all lines ever posted: what :meth:`imbalance` adds up anew."""
        return self._total

    @property
    def drawn(self) -> Trm:
        """Credit in use: Σ of the negative net positions of keys."""
        return self._drawn

    @property
    def minted(self) -> Trm:
        return Trm(-self.net(ISSUANCE))

    @property
    def burned(self) -> Trm:
        return self.net(BURN)

    def state_bytes(self) -> bytes:
        """Canonical bytes of what all nodes of a network share: equal for equal record sets under one network file.

        Local trades, which are nobody else's business (B14), are left out.
        """
        return b"".join(self._state_parts(shared=True))

    def own_state_bytes(self) -> bytes:
        """The same of the whole book, local trades included."""
        return b"".join(self._state_parts(shared=False))

    def state_hash(self) -> Digest:
        """SHA-256 of :meth:`state_bytes`; O(n log n) after a change, else remembered."""
        return self._state_hash(shared=True)

    def own_state_hash(self) -> Digest:
        """SHA-256 of :meth:`own_state_bytes`, at the same cost."""
        return self._state_hash(shared=False)

    def _state_hash(self, *, shared: bool) -> Digest:
        size = len(self.ids) - (len(self._local) if shared else 0)
        known, digest = self._hashed.get(shared, (-1, Digest(b"")))
        if known != size:
            hashing = sha256()
            for part in self._state_parts(shared=shared):
                hashing.update(part)
            digest = Digest(hashing.digest())
            self._hashed[shared] = size, digest
        return digest

    def _state_parts(self, *, shared: bool) -> Iterator[bytes]:
        """The MessagePack array of balances, lines and record ids, piece by piece: a million ids are not copied."""
        but = frozenset(self._local) if shared else frozenset[int]()
        balances = sorted(
            (account.kind.value, account.owner, account.period, amount)
            for account, amount in self.balances().items()
            if amount and not (shared and account.kind is AccountKind.LOCAL)
        )
        lines = sorted((key, self.limit(key)) for key in self._lines if self.limit(key))
        yield _ARRAY_OF_3 + msgspec.msgpack.encode(balances) + msgspec.msgpack.encode(lines)
        yield _array_header(len(self.ids) - len(but))
        for record_id in self.ids.in_order(but):
            yield _BYTES_32 + record_id

    # --- folding -----------------------------------------------------------------------------------------------

    def add(self, record_id: bytes, demand: Demand) -> None:
        """Fold one record in. A known one changes nothing."""
        if record_id in self:
            return
        account, debit = demand.account, demand.debit
        debits = self._debits.get(account)
        if debits is None:
            debits = self._debits[account] = Debits(self._demands)
        rival = debits.at(debit.order)
        place = self._demands.add(debit)
        if account.kind is AccountKind.LOCAL:
            self._local.append(place)
        if rival is not None:
            if self._demands.supersedes(debit, rival):
                self._replace(account, debits, rival, place)
        elif not debits.add(place) and debits.raised_by(place):
            self._wake(self._withdrawn_from([account]))
        else:
            self._wake([account])

    def _credit(self, account: Account) -> Trm:
        match account.kind:
            case AccountKind.KEY:
                return self.limit(account.owner)
            case _:
                return self._allowance(account)

    def _wake(self, accounts: list[Account]) -> None:
        """Apply every waiting debit that is covered, then wake those it credits."""
        while accounts:
            account = accounts.pop()
            debits = self._debits.get(account)
            if debits is None or not debits.waiting:
                continue
            for place in debits.take_funded(self.income(account), self._credit(account)):
                accounts.append(self._post(account, place))

    def _replace(self, account: Account, debits: Debits, former: int, place: int) -> None:
        """A trade that counts instead of another one of its session; in that one's turn, where that can be."""
        demands, doubtful, touched = self._demands, list[Account](), [account]
        if turn := demands.turn(former):
            doubtful.append(self._unpost(account, debits, former))
        debits.replace(former, place)
        if turn and debits.covers(place, *self._means_before(account, turn)):
            debits.apply(place, turn)
            touched.append(self._post(account, place))
            if demands.payee(former) == demands.payee(place) and demands.amount(former) <= demands.amount(place):
                doubtful.clear()  # whoever was paid has no less than before
        if debits.raised_by(place):
            doubtful.append(account)
        self._wake(touched + self._withdrawn_from(doubtful))

    def _withdrawn_from(self, doubtful: list[Account]) -> list[Account]:
        """Take back what nothing covers any more that applied before it; returns the accounts to be woken."""
        touched, left = dict.fromkeys(doubtful), dict.fromkeys(doubtful)
        while left:
            account = next(iter(left))
            del left[account]
            debits = self._debits.get(account)
            if debits is None:
                continue
            for place in debits.uncovered(self._means_by_turn(account)):
                self.withdrawn += 1
                poorer = self._unpost(account, debits, place)
                touched[poorer] = left[poorer] = None
        return list(touched)

    def _means_by_turn(self, account: Account) -> Iterator[tuple[int, Trm, Trm]]:
        """Income and credit of an account, turn by turn."""
        demands, income, credit = self._demands, Trm(0), Trm(0)
        granted = self._lines.get(account.owner, ()) if account.kind is AccountKind.KEY else ()
        if account.kind is not AccountKind.KEY:
            credit = self._allowance(account)
            yield 0, income, credit
        for turn, place, is_line in sorted(
            [(demands.turn(place), place, False) for place in self._paid.get(account, ())]
            + [(demands.turn(place), place, True) for place in granted]
        ):
            if is_line:
                credit = max(credit, demands.amount(place))
            else:
                income = Trm(income + demands.amount(place))
            yield turn, income, credit

    def _means_before(self, account: Account, turn: int) -> tuple[Trm, Trm]:
        """Income and credit of an account as that turn found them. O(k) for k payments after it."""
        demands, paid = self._demands, self._paid.get(account, Table(U32))
        later = sum(map(demands.amount, paid[bisect_left(paid, turn, key=demands.turn) :]))
        credit = self._credit(account)
        if account.kind is AccountKind.KEY:
            lines = self._lines.get(account.owner, Table(U32))
            credit = self._line_of(lines[: bisect_left(lines, turn, key=demands.turn)])
        return Trm(self.income(account) - later), credit

    def _line_of(self, grants: Iterable[int]) -> Trm:
        return max(map(self._demands.amount, grants), default=Trm(0))

    def _post(self, account: Account, place: int) -> Account:
        """Post one applied debit: two lines that add up to zero. Returns the account to wake."""
        demands = self._demands
        amount, payee, limit_of = demands.amount(place), demands.payee(place), demands.limit_of(place)
        self._line(self._spent, account, amount, -1)
        self._line(self._income, payee, amount, 1)
        self._enter(self._paid.setdefault(payee, Table(U32)), place)
        if limit_of:
            self._enter(self._lines.setdefault(limit_of, Table(U32)), place)
            return Account(AccountKind.KEY, limit_of)
        return payee

    def _unpost(self, account: Account, debits: Debits, place: int) -> Account:
        """Take an applied debit back: it waits again. Returns the account that is poorer now."""
        demands = self._demands
        amount, payee, limit_of = demands.amount(place), demands.payee(place), demands.limit_of(place)
        self._line(self._spent, account, Trm(-amount), -1)
        self._line(self._income, payee, Trm(-amount), 1)
        self._strike(self._paid[payee], place)
        if limit_of:
            self._strike(self._lines[limit_of], place)
        demands.unapply(place)
        debits.wait(place)
        return Account(AccountKind.KEY, limit_of) if limit_of else payee

    def _enter(self, column: Table, place: int) -> None:
        turn = self._demands.turn
        if not column or turn(column[-1]) < turn(place):
            column.append(place)
        else:
            column.insert(bisect_left(column, turn(place), key=turn), place)

    def _strike(self, column: Table, place: int) -> None:
        del column[bisect_left(column, self._demands.turn(place), key=self._demands.turn)]

    def _line(self, side: dict[Account, Trm], account: Account, amount: Trm, sign: int) -> None:
        before = self.net(account)
        side[account] = Trm(side[account] + amount)
        self._total = Trm(self._total + sign * amount)
        if account.kind is AccountKind.KEY:
            self._drawn = Trm(self._drawn + max(0, -before - sign * amount) - max(0, -before))


_ARRAY_OF_3, _BYTES_32 = b"\x93", b"\xc4\x20"


def _array_header(length: int) -> bytes:
    """How MessagePack begins an array of that length."""
    if length < 16:
        return bytes((0x90 | length,))
    return b"\xdc" + length.to_bytes(2) if length < 1 << 16 else b"\xdd" + length.to_bytes(4)
