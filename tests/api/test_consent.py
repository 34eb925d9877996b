"""What the mesh says of itself: whose relay, which limit, in words that say it all."""

from tirami.api.consent import DAILY_LIMIT, statements
from tirami.core.config import MeshConfig
from tirami.proto.network import Parameters


def said(limit: int | None = None, **settings: object) -> str:
    return " ".join(statements(MeshConfig(enabled=True, **settings), limit))  # type: ignore[arg-type]


def test_off_nothing_is_done() -> None:
    assert statements(MeshConfig()) == ["The mesh is off: nothing is sold or bought, and no other node is spoken to."]


def test_the_limit_is_a_number_whether_the_network_file_is_at_hand_or_not() -> None:
    assert Parameters().unwitnessed_daily_limit == DAILY_LIMIT
    assert "from one payer is limited to 77 TRM a day." in said(77)
    assert "limited to 1000 TRM a day unless the network file says otherwise" in said()
    assert "limited to" not in said(sell=False)


def test_the_relay_is_named() -> None:
    assert "The public relays run by n0 (mesh.relay = n0) see who talks to whom" in said(relay="n0")
    assert "The relay https://r.example sees who talks to whom" in said(relay="https://r.example")
    assert "No relay is used" in said()


def test_prompts_for_models_that_are_here_leave_only_where_that_is_set() -> None:
    full = "or whose places here are all taken (mesh.overflow), leave this machine to any provider of the network"
    assert full in said(consume="any", overflow=True)
    assert "models that are not here leave this machine" in said(consume="any")
    assert "No prompt leaves this machine" in said(overflow=True)
