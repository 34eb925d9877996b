"""Payers: turns an account into a key that can sign. The only place where hosted keys are opened."""

import asyncio

import structlog

from tirami.core.errors import AccountNotFound, KeystoreError
from tirami.core.keyfile import NodeKeys
from tirami.core.keys import PublicKey, SigningKey, local_user_key
from tirami.core.keystore import Keystore, Tried
from tirami.ledger import LOCAL, NETWORK, AccountResealed, Ledger, Payer
from tirami.node.alerts import Alert

_log = structlog.get_logger()


class Payers:
    """Signers of this node's own payers; keys stay inside and are cached once opened."""

    def __init__(self, ledger: Ledger, keystore: Keystore, keys: NodeKeys) -> None:
        self._ledger = ledger
        self._keystore = keystore
        self._node = keys.node
        self._local_user = local_user_key(keys.seal)
        self._opened: dict[bytes, SigningKey] = {}
        self._locked: tuple[PublicKey, ...] = ()

    @property
    def owner(self) -> Payer:
        """The person at this machine: local scope, own key (R-07)."""
        return Payer(self._local_user.public_key, self._local_user, LOCAL)

    @property
    def node(self) -> Payer:
        return Payer(self._node.public_key, self._node, NETWORK)

    async def check(self, *, accept_locked: bool) -> None:
        """Before anything opens or seals a key: whether the passphrase is the one of the hosted keys.

        Raises ``KeystoreError`` when it opens none of those that need one, unless ``accept_locked``: keys sealed now
        would be lost with the next, right one.
        """
        tried = await asyncio.to_thread(self.tried)
        self._locked = tried.locked
        if tried.sealed and not tried.opened and not accept_locked:
            raise KeystoreError(
                f"keystore.passphrase is missing or wrong: it opens none of the {tried.sealed} hosted keys that "
                "need one; if it is lost, keystore.accept_locked = true starts without those accounts",
                param="keystore.passphrase",
            )
        if self._keystore.has_passphrase and tried.bare and not tried.sealed:
            _log.warning("passphrase_unused", keys=tried.bare, reason="they were sealed without it and stay so")

    def tried(self) -> Tried:
        """The keys of hosted accounts that are not disabled, tried. Blocking."""
        return self._keystore.tried(self._sealed())

    async def unite(self) -> None:
        """After :meth:`check`: seal those under other salts anew under one, so that the next start derives one.

        Older versions took a salt for each of their runs. What was kept stays until the new one is durable. Raises
        ``StorageUnavailable``.
        """
        anew = await asyncio.to_thread(self._keystore.united, self._sealed())
        if anew:
            await self._ledger.record_facts(*(AccountResealed(account, sealed) for account, sealed in anew.items()))
            _log.info("keys_resealed", keys=len(anew))

    def _sealed(self) -> dict[PublicKey, bytes]:
        hosted = self._ledger.state.settings.accounts.values()
        return {PublicKey(each.account): each.sealed for each in hosted if not each.disabled}

    def alerts(self) -> list[Alert]:
        """What the check found, as long as one of those accounts is not disabled."""
        known = self._ledger.state.settings.accounts
        locked = [account for account in self._locked if not known[account].disabled]
        if not locked:
            return []
        few = ", ".join(account.hex()[:16] for account in locked[:3]) + (", …" if len(locked) > 3 else "")
        message = f"{len(locked)} hosted accounts cannot pay: keystore.passphrase does not open their keys ({few})"
        return [Alert("keys_locked", message)]

    def hosted(self, account: PublicKey) -> Payer:
        """Raises ``AccountNotFound``, ``KeystoreError``."""
        known = self._ledger.state.settings.accounts.get(account)
        if known is None:
            raise AccountNotFound(f"no account {account.hex()} is hosted here", param="account")
        if account not in self._opened:
            self._opened[account] = self._keystore.open(account, known.sealed)
        return Payer(account, self._opened[account], NETWORK)
