"""Settings: expired tokens are not kept for ever, and what is said of them later is no error."""

from tirami.core.units import UnixMs
from tirami.ledger import KillSet, Settings, TokenExpirySet, TokenIssued, TokenRevoked
from tirami.ledger.settings import FEW_TOKENS


def issued(number: int, expires_ms: int) -> TokenIssued:
    return TokenIssued(number.to_bytes(32), b"", "read_only", number, expires_ms, "")


def test_expired_tokens_are_dropped() -> None:
    settings = Settings()
    settings.apply(issued(0, 0), 1, UnixMs(0))
    for number in range(1, 50 * FEW_TOKENS):
        settings.apply(issued(number, number + 1), number, UnixMs(number))
        assert len(settings.tokens) <= FEW_TOKENS
    assert (0).to_bytes(32) in settings.tokens, "one that never expires stays"


def test_what_is_said_of_a_dropped_token_changes_nothing() -> None:
    settings = Settings()
    settings.apply(TokenExpirySet(b"gone", 5), 1, UnixMs(0))
    settings.apply(TokenRevoked(b"gone"), 2, UnixMs(0))
    assert settings.tokens == {}


def test_when_the_switch_was_thrown_here_is_known_until_it_is_released() -> None:
    settings = Settings()
    here, ordered = KillSet(True, "", "me"), KillSet(True, "", "mesh operator", 5, b"key")
    thrown = []
    for at, fact in enumerate((ordered, here, ordered, here, KillSet(False, "", "me"), ordered), 1):
        settings.apply(fact, at, UnixMs(at))
        thrown.append(settings.thrown_here_ms)
    assert thrown == [None, 2, 2, 4, None, None]
