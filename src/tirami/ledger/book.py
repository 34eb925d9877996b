"""The book: a fold of admitted records to balances (PROTOCOL B1, B2, B4, B14).

``state = fold(records, network file)``, whatever the order, the repetition or the delay. The state is the least
fixpoint of "a debit applies when its account can cover it, and then credits its payee". Records that arrive in
order cost O(1); income wakes the waiting debits of its receiver. A late record that raises what a later, applied debit
needs (only a payer that lied about its totals can cause that) makes the book fold itself again from nothing: checking
the inequality again would not do, because the income that now covers it may stem from the very debit in question.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from tirami.core.keys import Digest, sha256
from tirami.core.units import Trm
from tirami.ledger.accounts import BURN, ISSUANCE, Account, AccountKind, Posting
from tirami.ledger.debits import Debit, Debits

AllowanceRule = Callable[[Account], Trm]
"""TRM an account may take without any income; a constant of the network file for every account."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an admitted record asks of the book: one debit of one account."""

    account: Account
    debit: Debit


class Book:
    """Balances of all accounts, derived from the demands seen so far."""

    def __init__(self, allowance: AllowanceRule) -> None:
        self._allowance = allowance
        self._debits: dict[Account, Debits] = {}
        self._income: dict[Account, Trm] = defaultdict(lambda: Trm(0))
        self._spent: dict[Account, Trm] = defaultdict(lambda: Trm(0))
        self._lines: dict[bytes, dict[bytes, Trm]] = {}
        self._records: dict[bytes, Demand] = {}
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

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._records

    def is_applied(self, record_id: bytes) -> bool:
        """Whether this record moved its amount: covered, and not replaced by a later one of the same session."""
        demand = self._records.get(record_id)
        if demand is None:
            return False
        debits, order = self._debits[demand.account], demand.debit.order
        return order in debits.applied and debits.by_order[order].record_id == record_id

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
        balances = sorted((a.kind.value, a.owner, a.period, amount) for a, amount in self.balances().items() if amount)
        lines = sorted((key, self.limit(key)) for key in self._lines if self.limit(key))
        return msgspec.msgpack.encode([balances, lines, sorted(self._records)])

    def state_hash(self) -> Digest:
        """SHA-256 of :meth:`state_bytes`; O(n log n) after a change, else remembered."""
        known, digest = self._hashed
        if known != len(self._records):
            digest = sha256(self.state_bytes())
            self._hashed = len(self._records), digest
        return digest

    # --- folding -----------------------------------------------------------------------------------------------

    def add(self, record_id: bytes, demand: Demand) -> list[Posting]:
        """Fold one record in; returns the postings it caused at once. A known record changes nothing."""
        if record_id in self._records:
            return []
        self._records[record_id] = demand
        account, debit = demand.account, demand.debit
        debits = self._debits.setdefault(account, Debits())
        previous = debits.by_order.get(debit.order)
        if previous is not None and not _supersedes(debit, previous):
            return []
        if not debits.add(debit) and (previous is not None or debits.raised_by(debit.order)):
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
            for debit in debits.take_funded(self.income(account), self._credit(account)):
                accounts.append(self._post(account, debit, postings))
        return postings

    def _post(self, account: Account, debit: Debit, postings: list[Posting]) -> Account:
        """Post one applied debit: two lines that add up to zero. Returns the account to wake."""
        self._line(self._spent, account, debit.amount, -1)
        self._line(self._income, debit.payee, debit.amount, 1)
        postings += (Posting(account, Trm(-debit.amount)), Posting(debit.payee, debit.amount))
        if debit.limit_of:
            self._lines.setdefault(debit.limit_of, {})[debit.record_id] = debit.amount
            return Account(AccountKind.KEY, debit.limit_of)
        return debit.payee

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
        for debits in self._debits.values():
            debits.applied.clear()
            debits.waiting = list(debits.orders)
        self._wake(list(self._debits))


def _supersedes(new: Debit, old: Debit) -> bool:
    """Of several trades of one session the one with the most tokens counts; ties go to the smaller record id."""
    return (new.progress, new.amount, old.record_id) > (old.progress, old.amount, new.record_id)
