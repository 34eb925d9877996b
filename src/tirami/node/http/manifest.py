"""What this node speaks and offers: protocol, manifest, disclaimer."""

from starlette.responses import PlainTextResponse, Response

from tirami.api import OPERATIONS, Scope, legal
from tirami.api.schemas import (
    Action,
    Compatibility,
    Currency,
    Discovery,
    ManifestPolicy,
    ManifestReply,
    ProtocolReply,
    Stance,
)
from tirami.core.units import FLOP_PER_TRM
from tirami.ledger import is_issuer
from tirami.node.http.handlers import Call, handles
from tirami.node.http.health import FEATURES
from tirami.node.http.offers import served
from tirami.node.version import VERSION
from tirami.proto.network import CAP

PROTOCOL_VERSION, MIN_PROTOCOL_VERSION = 1, 1
WIRE_CODEC = "messagepack-canonical"
SECURITY_POLICY = "SECURITY.md"


@handles("protocol")
async def protocol(call: Call) -> ProtocolReply:
    network = call.parts.ledger.network
    return ProtocolReply(
        protocol_version=PROTOCOL_VERSION,
        min_protocol_version=MIN_PROTOCOL_VERSION,
        version=VERSION,
        features=sorted(FEATURES),
        network=network.id,
        network_hash=network.hash.hex(),
        proof_policy="none",
        zkml_backend="none",
        zkml_strength="none",
        transport=None,
        wire_codec=WIRE_CODEC,
        compatibility=Compatibility(),
    )


@handles("manifest")
async def manifest(call: Call) -> ManifestReply:
    """Public, so it says what the node offers and nothing about what it has."""
    parts = call.parts
    network, node = parts.ledger.network, parts.key.public_key
    parameters = network.parameters
    return ManifestReply(
        protocol_version=PROTOCOL_VERSION,
        version=VERSION,
        node_id=node.hex(),
        network=network.id,
        network_hash=network.hash.hex(),
        models=[engine.card.name for engine in served(parts)],
        currency=Currency(anchor_flops_per_unit=FLOP_PER_TRM, supply_cap=CAP),
        policy=ManifestPolicy(
            disclaimer=legal.DISCLAIMER,
            disclaimer_url=legal.PATH,
            welcome_loan_amount_trm=parameters.welcome_limit,
            welcome_loan_term_hours=parameters.welcome_hours,
            welcome_loan_available=is_issuer(parts.ledger, node) and parameters.welcome_limit > 0,
        ),
        actions=[
            Action(
                name=operation.name,
                endpoint=operation.path,
                method=operation.method,
                summary=operation.summary,
                scope=operation.scope.wire,
                auth_required=operation.scope is not Scope.PUBLIC,
            )
            for operation in OPERATIONS
        ],
        discovery=Discovery(
            openapi="/openapi.json",
            protocol="/v1/tirami/protocol",
            pricing="/v1/tirami/pricing",
            security_policy=SECURITY_POLICY,
        ),
        maintainer_stance=Stance(note=legal.TITLE),
    )


@handles("legal")
async def disclaimer(call: Call) -> Response:
    return PlainTextResponse(f"{legal.TITLE}\n\n{legal.DISCLAIMER}\n")
