"""What a node's keys have signed, read from its journal for the oracle and the index of PROTOCOL B8."""

from collections import defaultdict

from tests.ledger.oracle import Acceptance, Promise, convicts
from tirami.ledger import Evidence, HoldOpened, HoldVouched, Ledger
from tirami.ledger.entries import decode_content
from tirami.proto import Acceptance as Accepted
from tirami.proto import Envelope, Trade, Transfer, cited_in, decode
from tirami.proto.fraud import Cited


class Promises:
    """Acceptances, vouchers and transfers by payer; :meth:`read` adds what is new in a journal."""

    def __init__(self) -> None:
        self._accepted: dict[bytes, list[Acceptance]] = defaultdict(list)
        self._vouched: dict[bytes, list[Promise]] = defaultdict(list)
        self._evidence = Evidence("regtest")

    def read(self, ledger: Ledger, after: int = 0) -> int:
        """Take in the durable entries after position ``after``; returns the last position read."""
        select = "SELECT seq, kind, body FROM entries WHERE seq > ? ORDER BY seq"
        for seq, kind, body in ledger._journal._database.execute(select, (after,)):
            self._take(decode_content(kind, body))
            after = seq
        return after

    def _take(self, content: object) -> None:
        for piece in _cited(content):
            self._evidence.see(piece)
        match content:
            case HoldOpened(purpose="inference", acceptance=body):
                signed = decode(Accepted, body)
                opened = {entry.number: entry.ceiling for entry in signed.open}
                numbered = Acceptance(signed.incarnation, signed.number, signed.settled, opened, body)
                self._accepted[signed.payer].append(numbered)
            case HoldVouched(trade_body=body):
                trade = decode(Trade, body)
                self._vouched[trade.payer].append(Promise(trade.incarnation, trade.session, trade.amount))
            case Envelope(kind="transfer", body=body):
                moved = decode(Transfer, body)
                opened = {entry.number: entry.ceiling for entry in moved.open}
                numbered = Acceptance(moved.incarnation, moved.number, moved.settled, opened, body)
                self._accepted[moved.payer].append(numbered)
                self._vouched[moved.payer].append(Promise(moved.incarnation, moved.number, moved.amount))

    @property
    def count(self) -> int:
        return sum(map(len, self._accepted.values())) + sum(map(len, self._vouched.values()))

    def verdicts(self) -> set[str]:
        """What any payer can be convicted of; empty for honest ones."""
        found = {convicts(accepted, self._vouched[payer]) for payer, accepted in self._accepted.items()}
        known = {verdict for verdict in found if verdict is not None}
        assert known or not self._evidence.proofs, "the index convicts nobody whom the oracle does not"
        return known


def _cited(content: object) -> tuple[Cited, ...]:
    match content:
        case HoldOpened(purpose="inference", acceptance=body, acceptance_signature=signature):
            return (Cited("acceptance", body, signature),)
        case HoldVouched(trade_body=body, payer_signature=signature):
            return (Cited("trade", body, signature),)
        case Envelope():
            return cited_in(content)
    return ()
