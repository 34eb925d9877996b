"""Admission: whether a record may enter the book, and what it demands of it (PROTOCOL B1, B15).

Depends on signatures, arithmetic, cited evidence and the network file; never on balances, clocks, prices or
opinions. An admitted record applies when its account is covered (:mod:`tirami.ledger.book`).
"""

from dataclasses import dataclass
from typing import TypeVar

from tirami.core.errors import InvalidProof, InvalidSignature
from tirami.core.keys import Digest, PublicKey, Signature, sha256, verify
from tirami.core.units import DAY_MS, Trm
from tirami.ledger.accounts import LINES, Account, AccountKind, key_account, local_account, quota_account
from tirami.ledger.demands import Debit, Demand
from tirami.proto import Acceptance, Envelope, Grant, NetworkFile, Open, Record, Trade, Transfer, decode
from tirami.verify import check_bill

"""A quota's period: one calendar day, UTC."""
LOCAL = 1
NETWORK = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A record that passed, decoded once, with its id and its demand."""

    record_id: Digest
    body: Trade | Grant | Transfer
    envelope: Envelope
    demand: Demand


R = TypeVar("R", bound=Record)


def admit(envelope: Envelope, network: NetworkFile, *, own_acceptance: bool = False) -> Admitted:
    """Check one record in full.

    Args:
        own_acceptance: the acceptance was signed by this process a moment ago; its signature is not checked again.

    Raises:
        InvalidSignature, InvalidProof, NonCanonical: the record is no record of this network.
    """
    match envelope.kind:
        case "trade":
            return _admit_trade(envelope, network, own_acceptance)
        case "grant":
            return _admit_grant(envelope, network)
        case "transfer":
            return _admit_transfer(envelope, network)
        case kind:
            raise InvalidProof(f"unknown kind of record {kind!r}", param="kind")


def read(envelope: Envelope, network: NetworkFile) -> Admitted:
    """What :func:`admit` returns, for a record this node admitted before; signatures are not checked again."""
    match envelope.kind:
        case "trade":
            return _trade(envelope, network)
        case "grant":
            return _grant(envelope, network)
        case _:
            return _transfer(envelope, network)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Quotas of the network file's issuers, in TRM of lines a day; local accounts are without lower bound (B14)."""

    quotas: dict[bytes, Trm]

    def __call__(self, account: Account) -> Trm:
        if account.kind is AccountKind.LOCAL:
            return Trm(1 << 62)
        if account.kind is AccountKind.QUOTA:
            return self.quotas.get(account.owner, Trm(0))
        return Trm(0)


def allowance_rule(network: NetworkFile) -> Allowance:
    welcome = network.parameters.welcome_limit
    return Allowance({bytes.fromhex(issuer.key): Trm(issuer.daily_lines * welcome) for issuer in network.issuers})


def _identified(cls: type[R], body: bytes) -> tuple[R, Digest]:
    return decode(cls, body), sha256(cls.TAG, body)


def _declared(settled: int, open_sessions: tuple[Open, ...]) -> Trm:
    return Trm(settled + sum(session.ceiling for session in open_sessions))


def _trade(envelope: Envelope, network: NetworkFile) -> Admitted:
    trade, record_id = _identified(Trade, envelope.body)
    if len(envelope.signatures) != 2 or len(envelope.attachments) != 2:
        raise InvalidProof(
            "a trade carries two signatures, its acceptance and that one's signature", param="signatures"
        )
    acceptance, acceptance_id = _identified(Acceptance, envelope.attachments[0])
    _of_network(trade.network, network)
    check_bill(trade, acceptance, acceptance_id)
    account = local_account if trade.scope == LOCAL else key_account
    debit = Debit(
        order=(trade.incarnation, trade.session, b""),
        record_id=record_id,
        amount=Trm(trade.amount),
        declared=_declared(acceptance.settled, acceptance.open),
        payee=account(trade.provider),
        on_credit=True,
        progress=trade.completion_tokens,
    )
    return Admitted(record_id, trade, envelope, Demand(account(trade.payer), debit))


def _admit_trade(envelope: Envelope, network: NetworkFile, own_acceptance: bool) -> Admitted:
    admitted = _trade(envelope, network)
    trade = admitted.body
    assert isinstance(trade, Trade)
    message = Trade.TAG + envelope.body
    _signed(trade.payer, envelope.signatures[0], message, "payer")
    _signed(trade.provider, envelope.signatures[1], message, "provider")
    if not own_acceptance:
        acceptance, signature = envelope.attachments
        _signed(trade.payer, signature, Acceptance.TAG + acceptance, "acceptance")
    return admitted


def _grant(envelope: Envelope, network: NetworkFile) -> Admitted:
    grant, record_id = _identified(Grant, envelope.body)
    _of_network(grant.network, network)
    if len(envelope.signatures) != 1:
        raise InvalidProof("a grant carries its issuer's signature", param="signatures")
    if grant.issuer.hex() not in {issuer.key for issuer in network.issuers}:
        raise InvalidProof("the grantor is no issuer of the network file", param="issuer")
    if not 0 < grant.limit <= network.parameters.welcome_limit:
        raise InvalidProof("the line is larger than the network file allows", param="limit")
    if grant.period != grant.at_ms // DAY_MS:
        raise InvalidProof("the grant draws on the quota of another day than its own", param="period")
    debit = Debit(
        order=(grant.incarnation, grant.number, record_id),
        record_id=record_id,
        amount=Trm(grant.limit),
        declared=Trm(grant.settled),
        payee=LINES,
        on_credit=True,
        limit_of=grant.to,
    )
    return Admitted(record_id, grant, envelope, Demand(quota_account(grant.issuer, grant.period), debit))


def _admit_grant(envelope: Envelope, network: NetworkFile) -> Admitted:
    admitted = _grant(envelope, network)
    assert isinstance(admitted.body, Grant)
    _signed(admitted.body.issuer, envelope.signatures[0], Grant.TAG + envelope.body, "issuer")
    return admitted


def _transfer(envelope: Envelope, network: NetworkFile) -> Admitted:
    transfer, record_id = _identified(Transfer, envelope.body)
    _of_network(transfer.network, network)
    if len(envelope.signatures) != 1:
        raise InvalidProof("a transfer carries its payer's signature", param="signatures")
    if transfer.payer == transfer.to or transfer.amount < 1 or transfer.scope != NETWORK:
        raise InvalidProof("a transfer moves at least 1 TRM to another key of the network", param="amount")
    debit = Debit(
        order=(transfer.incarnation, transfer.number, record_id),
        record_id=record_id,
        amount=Trm(transfer.amount),
        declared=_declared(transfer.settled, transfer.open),
        payee=key_account(transfer.to),
        on_credit=False,
    )
    return Admitted(record_id, transfer, envelope, Demand(key_account(transfer.payer), debit))


def _admit_transfer(envelope: Envelope, network: NetworkFile) -> Admitted:
    admitted = _transfer(envelope, network)
    assert isinstance(admitted.body, Transfer)
    _signed(admitted.body.payer, envelope.signatures[0], Transfer.TAG + envelope.body, "payer")
    return admitted


def _of_network(name: str, network: NetworkFile) -> None:
    if name != network.id:
        raise InvalidProof("the record belongs to another network", param="network")


def _signed(key: bytes, signature: bytes, message: bytes, who: str) -> None:
    if not verify(PublicKey(key), Signature(signature), message):
        raise InvalidSignature(f"the signature of the {who} does not verify", param=who)
