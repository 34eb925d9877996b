"""What this node speaks and offers: protocol and manifest."""

from tirami.api.schemas.base import Reply


class Compatibility(Reply):
    rejects_future_protocol_versions: bool = True
    backward_serde_defaults: bool = True


class ProtocolReply(Reply):
    """Versions and feature flags. A field that nothing here stands behind is ``null`` or ``none``."""

    protocol_version: int
    min_protocol_version: int
    version: str
    features: list[str]
    network: str
    network_hash: str
    proof_policy: str
    zkml_backend: str
    zkml_strength: str
    transport: str | None
    wire_codec: str
    compatibility: Compatibility


class Currency(Reply):
    unit: str = "TRM"
    name: str = "Tirami Resource Merit"
    anchor_flops_per_unit: int
    anchor_constitutional: bool = True
    supply_cap: int
    exchange_listed: bool = False


class ManifestPolicy(Reply):
    disclaimer: str
    disclaimer_url: str
    stake_gate_enabled: bool = False
    welcome_loan_amount_trm: int
    welcome_loan_term_hours: int
    welcome_loan_available: bool
    nostr_pubkey: str | None = None


class Action(Reply):
    name: str
    endpoint: str
    method: str
    summary: str
    scope: str
    auth_required: bool


class Discovery(Reply):
    openapi: str
    protocol: str
    pricing: str
    security_policy: str


class Stance(Reply):
    exchange_listed: bool = False
    ico_or_presale: bool = False
    team_treasury: bool = False
    mainnet_operated_by_maintainers: bool = False
    note: str


class ManifestReply(Reply):
    schema_version: str = "1.0"
    protocol: str = "tirami"
    protocol_version: int
    version: str
    node_id: str
    agent_did: str | None = None
    network: str
    network_hash: str
    models: list[str]
    currency: Currency
    policy: ManifestPolicy
    actions: list[Action]
    discovery: Discovery
    maintainer_stance: Stance
