"""Offline check of a rotation: the old key ordered it, and the new one agreed (A-31)."""

from tirami.core.errors import InvalidProof, InvalidSignature
from tirami.core.keys import PublicKey, Signature, verify
from tirami.proto import NO_SUCCESSOR, Consent, Rotation, SignedBody, decode, signing_bytes


def check_rotation(order: SignedBody, network: str) -> Rotation:
    """Raises ``InvalidSignature``, ``InvalidProof``, ``NonCanonical``."""
    rotation = decode(Rotation, order.body)
    if rotation.network != network:
        raise InvalidProof("the rotation belongs to another network", param="network")
    if rotation.successor == rotation.key:
        raise InvalidProof("a key does not follow itself", param="successor")
    if not verify(PublicKey(rotation.key), Signature(order.signature), Rotation.TAG + order.body):
        raise InvalidSignature("the signature of the old key does not verify", param="key")
    if rotation.successor == NO_SUCCESSOR:
        if rotation.consent != bytes(64):
            raise InvalidProof("nobody agrees to a revocation", param="consent")
        return rotation
    consent = Consent(network=network, key=rotation.key, successor=rotation.successor)
    if not verify(PublicKey(rotation.successor), Signature(rotation.consent), signing_bytes(consent)):
        raise InvalidSignature("the signature of the new key does not verify", param="successor")
    return rotation
