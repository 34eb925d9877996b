"""Payers: turns an account into a key that can sign. The only place where hosted keys are opened."""

from tirami.core.errors import AccountNotFound
from tirami.core.keyfile import NodeKeys
from tirami.core.keys import PublicKey, SigningKey, local_user_key
from tirami.core.keystore import Keystore
from tirami.ledger import LOCAL, NETWORK, Ledger, Payer


class Payers:
    """Signers of this node's own payers; keys stay inside and are cached once opened."""

    def __init__(self, ledger: Ledger, keystore: Keystore, keys: NodeKeys) -> None:
        self._ledger = ledger
        self._keystore = keystore
        self._node = keys.node
        self._local_user = local_user_key(keys.seal)
        self._opened: dict[bytes, SigningKey] = {}

    @property
    def owner(self) -> Payer:
        """The person at this machine: local scope, own key (R-07)."""
        return Payer(self._local_user.public_key, self._local_user, LOCAL)

    @property
    def node(self) -> Payer:
        return Payer(self._node.public_key, self._node, NETWORK)

    def hosted(self, account: PublicKey) -> Payer:
        """Raises ``AccountNotFound``, ``KeystoreError``."""
        known = self._ledger.state.settings.accounts.get(account)
        if known is None:
            raise AccountNotFound(f"no account {account.hex()} is hosted here", param="account")
        if account not in self._opened:
            self._opened[account] = self._keystore.open(account, known.sealed)
        return Payer(account, self._opened[account], NETWORK)
