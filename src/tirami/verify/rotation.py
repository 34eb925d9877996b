"""Offline check of a rotation: the old key ordered it, and the new one agreed (A-31)."""

from tirami.core.errors import InvalidProof, InvalidSignature
from tirami.core.keys import PublicKey, Signature, verify
from tirami.proto import NO_SUCCESSOR, Consent, Rotation, SignedBody, Successor, decode, signing_bytes


def check_rotation(order: SignedBody, network: str) -> Rotation:
    """Raises ``InvalidSignature``, ``InvalidProof``, ``NonCanonical``."""
    rotation = decode(Rotation, order.body)
    if rotation.network != network:
        raise InvalidProof("the rotation belongs to another network", param="network")
    if not verify(PublicKey(rotation.key), Signature(order.signature), Rotation.TAG + order.body):
        raise InvalidSignature("the signature of the old key does not verify", param="key")
    if rotation.successor != NO_SUCCESSOR:
        successor = Successor(PublicKey(rotation.successor), Signature(rotation.consent))
        check_successor(network, PublicKey(rotation.key), successor)
    elif rotation.consent != bytes(64):
        raise InvalidProof("nobody agrees to a revocation", param="consent")
    return rotation


def check_successor(network: str, key: PublicKey, successor: Successor) -> None:
    """Whether it agreed to follow ``key``. Raises ``InvalidSignature``, ``InvalidProof``."""
    if successor.key == key:
        raise InvalidProof("a key does not follow itself", param="successor")
    consent = Consent(network=network, key=key, successor=successor.key)
    if not verify(successor.key, successor.consent, signing_bytes(consent)):
        raise InvalidSignature("the signature of the new key does not verify", param="successor")
