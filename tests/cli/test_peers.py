"""``tirami peers`` in a narrow terminal."""

from io import StringIO

from rich.console import Console

from tirami.api.schemas import PeerEntry, PeersReply
from tirami.cli.peers import _show


def shown(reply: PeersReply) -> list[str]:
    out = StringIO()
    _show(Console(file=out, width=80, soft_wrap=True, highlight=False), reply)
    return out.getvalue().splitlines()


def test_a_long_reason_is_broken_between_words() -> None:
    reason = "not connected: nobody is called who was not named in the settings of this node (mesh.peers = 0), so far"
    facts = PeerEntry.model_construct(
        node_id="ab" * 32, connected=False, kept=True, failure="it did not answer", audit_tier="Unverified"
    )
    none = {"offerings": [], "slots": 0, "score": None, "latency_ms": None, "clock_ahead_ms": None}
    entry = facts.model_copy(update=none | {"why_not": reason})
    lines = shown(PeersReply.model_construct(enabled=True, starting=False, count=1, connected=0, peers=[entry]))
    assert all(len(line) <= 80 for line in lines) and lines[1].startswith("abababababababab  not reached")
    assert " ".join(" ".join(lines[2:]).split()) == f"bought from: no: {reason} (it did not answer)"


def test_a_mesh_that_is_not_up_yet_is_not_one_that_is_off() -> None:
    (line,) = shown(PeersReply(enabled=False, starting=True, count=0, connected=0, peers=[]))
    assert "not on the mesh yet" in line
