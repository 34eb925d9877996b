"""The book: a fold of admitted records to balances (PROTOCOL B1, B2, B4, B14).

``state = fold(records, network file)``, whatever the order, the repetition or the delay. The state is the least
fixpoint of "a debit applies when its account can cover it, and then credits its payee". Records that arrive in
order cost O(1); income wakes the waiting debits of its receiver. A late record that raises what a later, applied debit
needs (only a payer that lied about its totals can cause that) makes the book fold itself again from nothing: checking
the inequality again would not do, because the income that now covers it may stem from the very debit in question.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256

import msgspec

from tirami.core.keys import Digest
from tirami.core.units import Trm
from tirami.ledger.accounts import BURN, ISSUANCE, Account, AccountKind, Posting
from tirami.ledger.columns import RecordIds
from tirami.ledger.debits import Debit, Debits, Demand, Demands

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
        self._lines: dict[bytes, dict[bytes, Trm]] = {}
        self._demands = Demands()
        self._total = Trm(0)
        self._drawn = Trm(0)
        self._hashed = (-1, Digest(b""))
        self.refolds = 0

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
        return max(self._lines.get(key, {}).values(), default=Trm(0))

    def known(self, account: Account) -> Trm:
        """Σ of all known debits of the account, applied or not."""
        debits = self._debits.get(account)
        return debits.known if debits else Trm(0)

    def covers(self, account: Account, debit: Debit) -> bool:
        """Whether this debit would apply at once, as far as is known (B2)."""
        cover = self.income(account) + self._credit(account)
        return cover >= max(debit.declared, self.known(account)) + debit.amount

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
        """Canonical bytes of the state: equal for equal record sets under one network file."""
        return b"".join(self._state_parts())

    def state_hash(self) -> Digest:
        """SHA-256 of :meth:`state_bytes`; O(n log n) after a change, else remembered."""
        known, digest = self._hashed
        if known != len(self.ids):
            hashing = sha256()
            for part in self._state_parts():
                hashing.update(part)
            digest = Digest(hashing.digest())
            self._hashed = len(self.ids), digest
        return digest

    def _state_parts(self) -> Iterator[bytes]:
        """The MessagePack array of balances, lines and record ids, piece by piece: a million ids are not copied."""
        balances = sorted((a.kind.value, a.owner, a.period, amount) for a, amount in self.balances().items() if amount)
        lines = sorted((key, self.limit(key)) for key in self._lines if self.limit(key))
        yield _ARRAY_OF_3 + msgspec.msgpack.encode(balances) + msgspec.msgpack.encode(lines)
        yield _array_header(len(self.ids))
        for record_id in self.ids.in_order():
            yield _BYTES_32 + record_id

    # --- folding -----------------------------------------------------------------------------------------------

    def add(self, record_id: bytes, demand: Demand) -> list[Posting]:
        """Fold one record in; returns the postings it caused at once. A known record changes nothing."""
        if record_id in self:
            return []
        account, debit = demand.account, demand.debit
        debits = self._debits.get(account)
        if debits is None:
            debits = self._debits[account] = Debits(self._demands)
        previous = debits.at(debit.order)
        place = self._demands.add(debit)
        if previous is not None and not self._demands.supersedes(debit, previous):
            return []
        if not debits.add(place) and (previous is not None or debits.raised_by(place)):
            self._refold()
            return []
        return self._wake([account])

    def add_all(self, demands: Iterable[tuple[bytes, Demand]]) -> None:
        for record_id, demand in demands:
            self.add(record_id, demand)

    def _credit(self, account: Account) -> Trm:
        match account.kind:
            case AccountKind.KEY:
                return self.limit(account.owner)
            case _:
                return self._allowance(account)

    def _wake(self, accounts: list[Account]) -> list[Posting]:
        """Apply every waiting debit that is covered, then wake those it credits."""
        postings: list[Posting] = []
        while accounts:
            account = accounts.pop()
            debits = self._debits.get(account)
            if debits is None or not debits.waiting:
                continue
            for place in debits.take_funded(self.income(account), self._credit(account)):
                accounts.append(self._post(account, place, postings))
        return postings

    def _post(self, account: Account, place: int, postings: list[Posting]) -> Account:
        """Post one applied debit: two lines that add up to zero. Returns the account to wake."""
        demands = self._demands
        amount, payee, limit_of = demands.amount(place), demands.payee(place), demands.limit_of(place)
        self._line(self._spent, account, amount, -1)
        self._line(self._income, payee, amount, 1)
        postings += (Posting(account, Trm(-amount)), Posting(payee, amount))
        if limit_of:
            self._lines.setdefault(limit_of, {})[demands.ids[place]] = amount
            return Account(AccountKind.KEY, limit_of)
        return payee

    def _line(self, side: dict[Account, Trm], account: Account, amount: Trm, sign: int) -> None:
        before = self.net(account)
        side[account] = Trm(side[account] + amount)
        self._total = Trm(self._total + sign * amount)
        if account.kind is AccountKind.KEY:
            self._drawn = Trm(self._drawn + max(0, -before - sign * amount) - max(0, -before))

    def _refold(self) -> None:
        self.refolds += 1
        self._total = self._drawn = Trm(0)
        self._income.clear()
        self._spent.clear()
        self._lines.clear()
        self._demands.unapply_all()
        for debits in self._debits.values():
            debits.wait_all()
        self._wake(list(self._debits))


_ARRAY_OF_3, _BYTES_32 = b"\x93", b"\xc4\x20"


def _array_header(length: int) -> bytes:
    """How MessagePack begins an array of that length."""
    if length < 16:
        return bytes((0x90 | length,))
    return b"\xdc" + length.to_bytes(2) if length < 1 << 16 else b"\xdd" + length.to_bytes(4)
