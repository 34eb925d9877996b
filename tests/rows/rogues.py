"""An honest seller and an honest buyer, and a rogue to sell and one to buy: processes of one network over QUIC."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rows.mesh import eventually
from tests.rows.test_saf import chat
from tirami.api.schemas import ChatCompletionRequest, PeersQuery, SafetyQuery, TradeEntry
from tirami.cli.demo.pair import Member
from tirami.cli.demo.process import clean_environment
from tirami.core.errors import TiramiError
from tirami.core.secretfile import read_secret
from tirami.proto import amount_due
from tirami.sdk import Tirami

MODEL = "smollm2:135m"
STORY = "Tell me a long story about a lighthouse and its keeper."
K_TOKENS, K_TRM = 16, 10
"""Of the network file: how much a provider gives a stranger on credit (B11), the less of the two."""
MEANS = 600
"""TRM of each buyer's line."""
MEETING_S = 120
"""Until five nodes that start at once have measured their models and heard of each other."""


@dataclass
class Heard:
    """What a client got of one streamed answer, or why it got none."""

    text: str = ""
    pieces: int = 0
    reason: str | None = None
    bill: dict[str, Any] = field(default_factory=dict)
    error: TiramiError | None = None

    @property
    def cost(self) -> int:
        return int(self.bill.get("trm_cost", 0))

    @property
    def tokens(self) -> int:
        """Billed."""
        return int(self.bill.get("completion_tokens", 0))

    def worth(self, tokens: int) -> int:
        """What so many tokens of this answer cost, TRM."""
        prices = self.bill["price_in_utrm"], self.bill["price_out_utrm"]
        return amount_due(*prices, self.bill["prompt_tokens"], tokens)


def ask(member: Member, most: int, leave_after: int | None = None, prompt: str = STORY, **asked: object) -> Heard:
    """Ask a node for an answer; ``leave_after`` so many pieces the client hangs up. ``asked``: fields of the body."""
    heard = Heard()
    body = chat(prompt, most).model_dump(exclude_unset=True)
    body |= {"model": MODEL, "temperature": 0, "stream_options": {"include_usage": True}, **asked}
    token = read_secret(member.home / "admin.token").decode().strip()
    with Tirami(member.url, token=token) as client:
        try:
            for chunk in client.stream_chat(ChatCompletionRequest.model_validate(body)):
                for choice in chunk["choices"]:
                    heard.reason = choice["finish_reason"] or heard.reason
                    if piece := choice["delta"].get("content"):
                        heard.pieces += 1
                        heard.text += piece
                if chunk.get("usage"):
                    heard.bill = {**chunk["usage"], **chunk["x_tirami"]}
                if heard.pieces == leave_after:
                    break
        except TiramiError as error:
            heard.error = error
    return heard


def cheat_next(rogue: Member, cheat: str) -> None:
    """What its next sessions are."""
    (rogue.home / "cheat").write_text(cheat)


@dataclass
class Town:
    seller: Member
    buyer: Member
    false_seller: Member
    false_buyer: Member
    hider: Member
    """A second false buyer: a key is convicted once."""

    @property
    def honest(self) -> tuple[Member, Member]:
        return self.seller, self.buyer

    def bought(self, cheat: str, most: int = 24, **how: Any) -> Heard:
        """What the honest buyer gets of the false seller."""
        cheat_next(self.false_seller, cheat)
        return ask(self.buyer, most, **how)

    def sold(self, cheat: str, most: int = 24, rogue: Member | None = None, **how: Any) -> Heard:
        """What a false buyer gets of the honest seller."""
        rogue = rogue or self.false_buyer
        cheat_next(rogue, cheat)
        return ask(rogue, most, **how)

    def newest(self) -> TradeEntry:
        """Of the honest buyer's trades."""
        return self.buyer.client.trades().trades[0]

    def convicted(self, member: Member) -> set[str]:
        return {fraud.guilty for fraud in member.client.frauds().frauds}

    def at_rest(self, side: Member) -> None:
        """Both honest books are equal and add up to nothing, no key is accused that proved nothing against itself.

        And of ``side`` nothing is promised.
        """
        eventually(lambda: len({member.book.state_hash for member in self.honest}) == 1)
        eventually(lambda: reserved(side) == 0)
        for member in self.honest:
            assert member.book.sum_of_accounts == 0
            assert not self.convicted(member) & {one.key.hex() for one in (*self.honest, self.false_seller)}


def reserved(member: Member) -> int:
    """TRM and sessions that are promised and not settled, by hosted accounts, the owner and the node's own key."""
    accounts, node = member.client.accounts().accounts, SafetyQuery(node=member.key.hex())
    sessions = member.client.safety().open_sessions + member.client.safety(node).open_sessions
    return sum(account.reserved for account in accounts) + sessions


def knows(member: Member, seller: Member) -> bool:
    peers = member.client.peers(PeersQuery()).peers
    return any(peer.node_id == seller.key.hex() and peer.models and peer.why_not is None for peer in peers)


@contextmanager
def town(scratch: Path) -> Iterator[Town]:
    file = scratch / "network.json"
    environment = clean_environment(scratch)
    shared = {"NETWORK_FILE": str(file), "PRICING_FOLLOW_LOAD": "false", "API_RATE_PER_SECOND": "9999"}
    rogue = ("tirami.testing.rogue", "honest", "means")
    selling = {**shared, "INFER_MODEL": MODEL, "INFER_THREADS": "1"}  # two engines do not wait for each other
    seller = Member(scratch / "seller", selling, environment)
    false_seller = Member(scratch / "false-seller", selling, environment, program=rogue[:2])

    def buyer(name: str, of: Member, **how: Any) -> Member:
        settings = {
            **shared,
            "INFER_MODELS_DIR": str(scratch / name / "models"),
            "MESH_CONSUME": "trusted",
            "MESH_TRUSTED": of.key.hex(),
            "MESH_BOOTSTRAP": f"{seller.address} {false_seller.address}",
        }
        return Member(scratch / name, settings, environment, options=("--no-model",), **how)

    made = Town(
        seller,
        buyer("buyer", false_seller),
        false_seller,
        buyer("false-buyer", seller, program=rogue),
        buyer("hider", seller, program=rogue),
    )
    keys = [member.key.hex() for member in (seller, made.buyer, made.false_buyer, made.hider)]
    parameters = {"witnesses": 1, "quorum": 1, "welcome_limit": MEANS}
    parameters |= {"stranger_tokens": K_TOKENS, "voucher_trm": K_TRM}
    document = {"format": "tirami/1/network", "id": "town", "parameters": parameters, "witnesses": keys[:2]}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys]}))
    running = (seller, false_seller, made.buyer, made.false_buyer, made.hider)
    with ThreadPoolExecutor(len(running)) as threads:
        try:
            list(threads.map(Member.start, running))
            eventually(lambda: knows(made.buyer, false_seller), MEETING_S)
            eventually(lambda: all(knows(rogue, seller) for rogue in (made.false_buyer, made.hider)), MEETING_S)
            yield made
        finally:
            list(threads.map(Member.stop, running))
