"""Transfers: a key gives what it owns, never what it may borrow (PROTOCOL B4)."""

from collections.abc import Awaitable

from tirami.core.errors import InsufficientFunds
from tirami.core.keys import PublicKey, Signer
from tirami.core.units import Trm
from tirami.ledger.accounts import key_account
from tirami.ledger.admission import NETWORK, Admitted
from tirami.ledger.answers import Asked
from tirami.ledger.entries import ApprovalUsed
from tirami.ledger.ledger import Ledger
from tirami.proto import Envelope, Transfer, encode, sign


def transferable(ledger: Ledger, payer: PublicKey) -> Trm:
    """TRM the key owns outright: income less everything it spent or promised; a credit line does not count."""
    books = ledger.books(payer)
    return Trm(max(0, ledger.state.book.income(key_account(payer)) - books.settled - books.held))


def transfer(
    ledger: Ledger, payer: Signer, to: PublicKey, amount: Trm, permit: bytes = b"", asked: Asked | None = None
) -> tuple[Admitted, Awaitable[None]]:
    """Move ``amount`` TRM to ``to``: gate, number, signature and record in one step.

    ``permit`` is the id of the approval for an amount above the payer's threshold; ``asked`` is noted as answered.

    Raises ``SpendDenied`` with the first reason; ``InsufficientFunds`` when the key does not own that much.
    """
    key = payer.public_key
    permit = ledger.gate.check(key, amount, permit)
    owned = transferable(ledger, key)
    if amount > owned:
        raise InsufficientFunds(
            f"{amount} TRM are needed, {owned} are owned; a credit line pays for inference only",
            needed=amount,
            available=owned,
        )
    books = ledger.books(key)
    body = Transfer(
        network=ledger.network.id,
        scope=NETWORK,
        payer=key,
        to=to,
        incarnation=ledger.state.holds.incarnation,
        number=ledger.state.holds.next_number(key),
        settled=books.settled,
        open=books.open_list(),
        amount=amount,
        at_ms=ledger.now(),
    )
    used = [ApprovalUsed(permit)] if permit else []
    return ledger.book_record(Envelope("transfer", encode(body), (sign(body, payer),), ()), *used, asked=asked)
