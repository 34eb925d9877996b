"""The public names of the room, pinned: others build on them."""

import tirami.proto

NAMES = """
RECORDS Acceptance Envelope Grant Head Issuer NetworkFile Open Parameters Quote Receipt Record RunningHash Signed
Summary Trade Transfer Voucher amount_due build_receipt decode encode leaf parse_receipt parties prompt_hash record_id
session_secret sign signed signing_bytes summary_of verify
AnchorNetwork ParsedStatement Statement StatementFile StatementNode StatementTrade anchor_payload anchor_script
parse_statement statement_trade
Cited FraudProof FraudRecord build_fraud cited_in parse_fraud
MAX_MODELS MAX_PIECE MAX_PROMPT MAX_SHAPING MESSAGES VERSION Accept Ask BlockFollows BlockPart BlockWanted Cancel
ConsistencyProof ConsistencyWanted Finish FraudFound HeadSeen Hello
KillAnswer KillAnswered KillOrder KillOrdered Leaving Message ModelFacts
Observation ObservationSeen Offer Offering Payment Piece Ping Pong Reconcile Records Refused Settled Shown Signal
SignalSeen SignedBody Working Advert InviteShown InviteTaken PeerSeen Peers PeersWanted Probe ProbeWanted Probed
NO_SUCCESSOR Consent Rotation RotationSeen Successor rotation
"""


def test_public_names() -> None:
    assert sorted(tirami.proto.__all__) == sorted(NAMES.split())
    for name in tirami.proto.__all__:
        assert getattr(tirami.proto, name) is not None
