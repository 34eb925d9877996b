"""Of whom the owner lets this node buy."""

from tirami.core.config import MeshConfig
from tirami.core.keys import parse_node_id
from tirami.ledger import Ledger


class Consent:
    """``mesh.consume`` with its lists, and what the book says of a key."""

    def __init__(self, config: MeshConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._trusted = keys_in(config.trusted)
        self._denied = keys_in(config.denied)

    @property
    def given(self) -> bool:
        """Whether a prompt may leave this machine at all."""
        return self._config.consume != "off"

    def refusal(self, key: bytes) -> str | None:
        """Why nothing is bought from this key; ``None`` for no reason."""
        if not self.given:
            return "no prompt leaves this machine (mesh.consume = off)"
        if self._is_denied(key):
            return "it is on the deny list"
        if key in self._ledger.state.settings.convicted:
            return "it has signed what contradicts itself"
        if self._ledger.state.succession.ended(key):
            return "its key was rotated or revoked"
        if self._config.consume == "trusted" and not self._is_trusted(key):
            return "it is not on the list of trusted providers"
        return None

    def _is_denied(self, key: bytes) -> bool:
        """On the list, or named to follow one that is, by whomever: a new key is no way off it."""
        succession = self._ledger.state.succession
        return key in self._denied or any(key in succession.line(old) for old in self._denied if succession.ended(old))

    def _is_trusted(self, key: bytes) -> bool:
        """On the list, or the one undisputed heir of one that is, which both of them signed (A-31).

        Whose former key has signed what contradicts itself inherits nothing.
        """
        state = self._ledger.state
        succession, convicted = state.succession, state.settings.convicted
        return any(succession.heir(old) == key and succession.line(old).isdisjoint(convicted) for old in self._trusted)


def keys_in(text: str) -> frozenset[bytes]:
    """Node ids, separated by commas. Raises ``InvalidField``."""
    return frozenset(parse_node_id(part.strip()) for part in text.split(",") if part.strip())
