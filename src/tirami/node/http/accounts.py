"""Hosted accounts."""

from contextlib import suppress

from tirami.api.schemas import AccountEntry, AccountList, AccountRequest
from tirami.core.errors import AccountNotFound, QueueFull
from tirami.core.keys import PublicKey, SigningKey
from tirami.ledger import AccountCreated, AccountDisabled, HostedAccount, grant_line, is_issuer
from tirami.node.http.handlers import Call, handles
from tirami.node.http.idempotency import answer_to, asked_by


@handles("accounts", shows_book=True)
async def accounts(call: Call) -> AccountList:
    hosted = call.parts.ledger.state.settings.accounts.values()
    return AccountList(accounts=[_entry(call, account) for account in hosted])


@handles("create_account")
async def create_account(call: Call) -> AccountEntry:
    """A new key, sealed, with a welcome line while today's quota lasts. Refused while spending is frozen."""
    body: AccountRequest = call.body
    parts, asked = call.parts, asked_by(call)
    if (account := await answer_to(call, asked)) is not None:
        return _entry(call, parts.ledger.state.settings.accounts[account])
    key = SigningKey.generate()
    parts.ledger.gate.check_open()
    created = AccountCreated(key.public_key, body.label, parts.keystore.seal(key))
    facts = [created] if asked is None else [created, asked.answered(key.public_key)]
    written = None
    if is_issuer(parts.ledger, parts.key.public_key):
        with suppress(QueueFull):
            written = grant_line(parts.ledger, parts.key, key.public_key, *facts)
    await (written or parts.ledger.record_facts(*facts))
    return _entry(call, parts.ledger.state.settings.accounts[key.public_key])


@handles("disable_account")
async def disable_account(call: Call) -> AccountEntry:
    account = call.digest(AccountNotFound)
    known = call.parts.ledger.state.settings.accounts
    if account not in known:
        raise AccountNotFound("no such account", param="id")
    if not known[account].disabled:
        await call.parts.ledger.record_facts(AccountDisabled(account))
    return _entry(call, call.parts.ledger.state.settings.accounts[account])


def _entry(call: Call, hosted: HostedAccount) -> AccountEntry:
    has = call.parts.ledger.balance(PublicKey(hosted.account))
    return AccountEntry(
        account=hosted.account.hex(),
        network_hash=call.parts.ledger.network.hash.hex(),
        label=hosted.label,
        created_ms=hosted.created_ms,
        disabled=hosted.disabled,
        effective_balance=has.effective,
        net_balance=has.net,
        reserved=has.reserved,
        line_until_ms=call.parts.ledger.state.line_due.get(hosted.account),
    )
