"""Welcome lines: how the economy opens when nobody owns a TRM (PROTOCOL B4, B17).

A grant is the issuer's numbered debit of its own quota of the day. One line a key, once in its life; it funds
trades only; due date and quota are this gate's business, never the fold's.
"""

from collections.abc import Awaitable

from tirami.core.errors import QueueFull
from tirami.core.keys import PublicKey, Signer
from tirami.core.units import DAY_MS, Trm, UnixMs
from tirami.ledger.accounts import quota_account
from tirami.ledger.entries import Fact
from tirami.ledger.ledger import Ledger
from tirami.ledger.state import QUOTA
from tirami.proto import Envelope, Grant, encode, sign


def is_issuer(ledger: Ledger, node: PublicKey) -> bool:
    return any(issuer.key == node.hex() for issuer in ledger.network.issuers)


def grant_line(ledger: Ledger, issuer: Signer, to: PublicKey, *facts: Fact) -> Awaitable[None] | None:
    """Grant ``to`` the network's welcome line, in one group with ``facts``.

    ``None``, and nothing is written, when it already had one or the network knows none.

    Raises ``QueueFull`` when today's quota is used up, ``SpendDenied`` while spending is frozen
    or the issuer's counter is not sure.
    """
    book, parameters = ledger.state.book, ledger.network.parameters
    if book.limit(to) or not parameters.welcome_limit:
        return None
    ledger.gate.check_open(issuer.public_key)
    now = ledger.now()
    period = now // DAY_MS
    used = book.known(quota_account(issuer.public_key, period))
    limit = Trm(parameters.welcome_limit)
    quota = next(entry.daily_lines for entry in ledger.network.issuers if entry.key == issuer.public_key.hex())
    if used + limit > quota * limit:
        tomorrow = (period + 1) * DAY_MS - now
        raise QueueFull("today's quota of welcome lines is used up", retry_after=tomorrow // 1000 + 1)
    grant = Grant(
        network=ledger.network.id,
        issuer=issuer.public_key,
        incarnation=ledger.state.holds.incarnation,
        number=ledger.state.holds.next_number(QUOTA + issuer.public_key),
        settled=used,
        to=to,
        limit=limit,
        due_ms=UnixMs(now + parameters.welcome_hours * 3_600_000),
        period=period,
        at_ms=now,
    )
    return ledger.book_record(Envelope("grant", encode(grant), (sign(grant, issuer),), ()), *facts)[1]
