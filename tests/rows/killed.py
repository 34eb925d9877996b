"""What the kill stops, kind by kind, and why it does not stop the rest (SAF-01, PROTOCOL B13).

Four tables: what can be signed, what the journal can say, what can be asked over HTTP, what peers can say. Each has
every kind there is; ``test_saf_kill`` fails for one that is missing, so whoever adds a kind decides here whether a
killed node still does it. ``STOPPED`` never happens between the reply to a kill and its release; anything else is the
reason why it may.
"""

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from tirami import proto
from tirami.core.keys import PublicKey
from tirami.ledger import entries as journal
from tirami.ledger import records
from tirami.ledger.entries import Content, Entry
from tirami.proto import Envelope, Message, Record, Signal, Trade, decode
from tirami.proto.adverts import Advert

STOPPED: Final = None
OWED: Final = "settles what was promised before: what was vouched for is still booked"
UNDONE: Final = "takes a promise back, and makes none"
FREEZES: Final = "freezes more, or is what an operator needs while all is frozen"
WORTHLESS: Final = "allows nothing by itself: whatever it leads to asks the gate again"
TELLS: Final = "says what is so already: nobody has a TRM more or less by it"
MIRRORS: Final = """others signed it, and receiving is never gated: books stay functions of the records (B13, B16).

This is what the row means by gossip credit: the original credited a node with trades it heard of, whoever had signed
them. Here a record that is heard changes accounts as its signatures say, in every book alike; a killed node books it,
too, for else its book would differ from all others, and it can spend nothing of what that brings.
"""

SIGNED: Final[Mapping[type[Record], str | None]] = {
    proto.Quote: STOPPED,
    proto.Acceptance: STOPPED,
    proto.Grant: STOPPED,
    proto.Transfer: STOPPED,
    proto.Trade: OWED,  # as its provider; as its payer it is a voucher, and stopped
    proto.Head: TELLS,
    proto.Statement: TELLS,
    proto.Signal: TELLS,  # that nothing is sold any more
    proto.Observation: TELLS,
    proto.Probe: TELLS,  # what is paid for it an issuer grants, and is stopped
    Advert: TELLS,
    proto.KillOrder: FREEZES,
    proto.KillAnswer: TELLS,
    proto.Consent: FREEZES,
    proto.Rotation: FREEZES,  # a stolen key ends whatever else stands still
}

BOOKED: Final[Mapping[object, str | None]] = {
    # records by kind: the node's own grants and transfers are stopped, see `promised`
    "trade": OWED,
    "grant": MIRRORS,
    "transfer": MIRRORS,
    journal.HoldOpened: STOPPED,
    journal.HoldVouched: STOPPED,
    journal.HoldCaptured: OWED,
    journal.HoldReleased: UNDONE,
    journal.HoldFailed: UNDONE,
    journal.HoldOwed: OWED,
    journal.ClaimOpened: STOPPED,
    journal.ClaimVouched: OWED,  # the payer's word for what it has already been served
    journal.ClaimSettled: OWED,
    journal.ClaimDropped: UNDONE,
    journal.JournalOpened: TELLS,
    journal.NodeStarted: TELLS,
    journal.KillSet: FREEZES,
    journal.PolicySet: WORTHLESS,
    journal.PreferencesSet: WORTHLESS,
    journal.AccountCreated: STOPPED,
    journal.AccountResealed: TELLS,
    journal.AccountDisabled: FREEZES,
    journal.TokenIssued: WORTHLESS,
    journal.TokenExpirySet: FREEZES,
    journal.TokenRevoked: FREEZES,
    journal.BreakerTripped: FREEZES,
    journal.ApprovalRequested: STOPPED,
    journal.ApprovalDecided: WORTHLESS,
    journal.ApprovalUsed: STOPPED,
    journal.RequestAnswered: STOPPED,
    journal.HeadPublished: TELLS,
    journal.FraudProven: FREEZES,
    journal.KeyRotated: FREEZES,
    journal.SignedElsewhere: FREEZES,
    journal.RestartSeen: STOPPED,
    journal.InviteMade: WORTHLESS,
    journal.InviteRevoked: FREEZES,
    journal.GuestTaken: WORTHLESS,  # its welcome line, which an issuer grants in the same group, is stopped
    journal.SellingPaused: FREEZES,
    journal.PriceObserved: TELLS,
}

ASKED: Final[Mapping[str, str | None]] = {
    "chat_completions": STOPPED,
    "completions": STOPPED,
    "embeddings": STOPPED,
    "responses": STOPPED,
    "legacy_chat": STOPPED,
    "legacy_chat_stream": STOPPED,
    "schedule": STOPPED,  # with `reserve`; without, it only tells
    "transfer": STOPPED,
    "agent_task": STOPPED,
    "create_account": STOPPED,
    "rotate_key": STOPPED,  # with `move`; without, it only ends a key
    "quote": TELLS,
    "change_model": TELLS,
    "remove_model": TELLS,
    "backup": TELLS,
    "set_selling": FREEZES,
    "disable_account": FREEZES,
    "kill": FREEZES,
    "revoke_token": FREEZES,
    "revoke_invite": FREEZES,
    "revoke_key": FREEZES,
    "set_policy": WORTHLESS,
    "set_agent_preferences": WORTHLESS,
    "approve": WORTHLESS,
    "deny": WORTHLESS,
    "issue_token": WORTHLESS,
    "rotate_token": WORTHLESS,
    "create_invite": WORTHLESS,
    "join": WORTHLESS,
}
"""What is asked with a method other than GET. What is asked with GET tells, and is asked by the tests all the same."""

HEARD: Final[Mapping[type[Message], str | None]] = {
    proto.Ask: STOPPED,
    proto.Accept: STOPPED,
    proto.InviteShown: STOPPED,  # where the welcome line is this node's to grant
    proto.Payment: OWED,
    proto.Finish: OWED,
    proto.Settled: OWED,
    proto.Cancel: UNDONE,
    proto.Records: MIRRORS,
    proto.Reconcile: MIRRORS,
    proto.FraudFound: FREEZES,
    proto.KillOrdered: FREEZES,
    proto.RotationSeen: FREEZES,
    # what this node asked for, and does not ask for while it is killed
    proto.Offer: WORTHLESS,
    proto.Working: WORTHLESS,
    proto.Piece: WORTHLESS,
    proto.InviteTaken: WORTHLESS,
    proto.Refused: UNDONE,
    proto.Hello: TELLS,
    proto.Ping: TELLS,
    proto.Pong: TELLS,
    proto.Leaving: TELLS,
    proto.HeadSeen: TELLS,
    proto.ConsistencyWanted: TELLS,
    proto.ConsistencyProof: TELLS,
    proto.SignalSeen: TELLS,
    proto.ObservationSeen: TELLS,
    proto.BlockWanted: TELLS,
    proto.BlockFollows: TELLS,
    proto.BlockPart: TELLS,
    proto.PeersWanted: TELLS,
    proto.Peers: TELLS,
    proto.ProbeWanted: TELLS,
    proto.Probed: TELLS,
    proto.KillAnswered: TELLS,
}

SIGNERS: Final[Mapping[str, type[Record]]] = {
    "market/inference:_own_offer": proto.Quote,
    "net/session/provider:_offered": proto.Quote,
    "market/quoting:accept": proto.Acceptance,
    "market/session:_sign": proto.Trade,
    "ledger/countersigner:countersigned": proto.Trade,
    "ledger/lines:grant_line": proto.Grant,
    "ledger/transfers:transfer": proto.Transfer,
    "ledger/heads:_publish": proto.Head,
    "ledger/statements:sign": proto.Statement,
    "net/signals:_signed": proto.Signal,
    "net/opinions:run": proto.Observation,
    "net/adverts:write": Advert,
    "net/probes:answer": proto.Probe,
    "net/kills:order": proto.KillOrder,
    "net/kills:_answer": proto.KillAnswer,
    "net/rotations:order": proto.Rotation,
    "proto/orders:agreeing": proto.Consent,
}
"""Every place of the product that signs with a key, and what."""
SIGN_FOR_OTHERS: Final = {
    "core/keys:sign",
    "proto/codec:sign",
    "proto/codec:signed",
    "ledger/payables:_signed_total",  # calls what it is given, behind the gate
    "ledger/payables:open_holds",
    "node/http/settlement:_as_csv",
    "node/http/settlement:_as_json",
}
"""What only passes on what another place signs."""


def kinds_of_records() -> set[type[Record]]:
    """All that a key of the protocol signs: whatever has a tag of its own."""
    found, waiting = set(), [Record]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.TAG and kind.__module__.startswith("tirami.proto"):
            found.add(kind)
    return found


def kinds_of_entries() -> set[object]:
    """All that the journal says: kinds of records, holds, claims and facts."""
    others = {kind for kind in get_args(Content) if kind is not Envelope}
    return others | set(records._BODIES)


def signed_kind(message: bytes) -> type[Record] | None:
    """What a message to be signed is; a body begins with an array marker, which no tag has in it."""
    for kind in kinds_of_records():
        if message.startswith(kind.TAG) and message[len(kind.TAG)] >= 0x80:
            return kind
    return None


def may_sign(message: bytes, key: PublicKey) -> bool:
    """Whether a killed node may sign this with this key of its own."""
    kind = signed_kind(message)
    if kind is None or SIGNED[kind] is STOPPED:
        return False
    body = message[len(kind.TAG) :]
    if kind is Trade:
        return decode(Trade, body).payer != key
    return kind is not Signal or not decode(Signal, body).models


def promised(entries: Iterable[Entry], own: set[bytes]) -> list[Content]:
    """Those of a killed node's entries that the kill should have stopped. ``own``: keys it signs with."""
    return [entry.content for entry in entries if _is_promise(entry.content, own)]


def _is_promise(content: Content, own: set[bytes]) -> bool:
    if not isinstance(content, Envelope):
        return BOOKED[type(content)] is STOPPED
    match content.kind:
        case "grant":
            return decode(proto.Grant, content.body).issuer in own
        case "transfer":
            return decode(proto.Transfer, content.body).payer in own
        case kind:
            return BOOKED[kind] is STOPPED
