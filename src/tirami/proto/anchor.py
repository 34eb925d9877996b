"""The anchor payload: a Merkle root as 40 bytes of a Bitcoin OP_RETURN output (spec 08 §3.8, spec 02 §23)."""

from enum import IntEnum

MAGIC = b"FRGE"
VERSION = 1
OP_RETURN, PUSH_40 = 0x6A, 0x28


class AnchorNetwork(IntEnum):
    """Which chain an anchor is meant for; byte 5 of the payload."""

    MAINNET = 0
    TESTNET = 1
    SIGNET = 2
    REGTEST = 3


def anchor_payload(root: bytes, network: AnchorNetwork) -> bytes:
    """``FRGE`` ‖ version ‖ network ‖ two zero bytes ‖ the 32 bytes of ``root``. Raises ``ValueError``."""
    if len(root) != 32:
        raise ValueError("a Merkle root has 32 bytes")
    return MAGIC + bytes((VERSION, network, 0, 0)) + root


def anchor_script(payload: bytes) -> bytes:
    """The output script: OP_RETURN and one push of the 40 bytes."""
    return bytes((OP_RETURN, PUSH_40)) + payload
