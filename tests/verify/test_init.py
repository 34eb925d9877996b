"""The public names of the room, pinned."""

import tirami.verify

NAMES = """
VerifiedReceipt check_bill empty_root largest_power_of_two_below leaf_hash node_hash root_from_inclusion
verify_consistency verify_growth verify_head verify_inclusion verify_receipt
VerifiedRecord verify_record NOBODY RunningRoot Tally VerifiedStatement verify_statement
Claim Verdict claim_of verify_fraud check_rotation check_successor
"""


def test_public_names() -> None:
    assert sorted(tirami.verify.__all__) == sorted(NAMES.split())
    for name in tirami.verify.__all__:
        assert getattr(tirami.verify, name) is not None
