"""The table of operations: name, route, scope, shapes. Server, OpenAPI and SDK derive from it."""

from dataclasses import dataclass
from enum import StrEnum

from tirami.api import schemas as s
from tirami.api.scopes import Scope


class Dialect(StrEnum):
    """Wrong shapes are 400 in the OpenAI dialect and 422 in ours."""

    OPENAI = "openai"
    TIRAMI = "tirami"


@dataclass(frozen=True, slots=True)
class Operation:
    """One capability, declared once.

    Attributes:
        name: Python name; method of the SDK.
        path: with ``{parameters}`` in braces, 64 hexadecimal digits each unless named ``model``.
        scope: the least a token must have.
        query, body, reply: shapes; ``reply`` ``None`` is raw bytes or text.
        media: content type of the reply.
        also: other content types it may have.
        limited: counted by the per-caller rate limit.
        streams: may answer with server-sent events.
        idempotent: takes effect once for each ``Idempotency-Key`` of a caller.
        success: status of an answer that is no error; 202 where the work goes on after it.
    """

    name: str
    method: str
    path: str
    scope: Scope
    summary: str
    query: type[s.Query] | None = None
    body: type[s.Body] | type[s.OpenAiBody] | None = None
    reply: type[s.Reply] | None = None
    media: str = "application/json"
    also: tuple[str, ...] = ()
    dialect: Dialect = Dialect.TIRAMI
    limited: bool = True
    streams: bool = False
    idempotent: bool = False
    success: int = 200

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


_R, _I, _E, _A, _P = Scope.READ_ONLY, Scope.INFERENCE, Scope.ECONOMY, Scope.ADMIN, Scope.PUBLIC
_T = "/v1/tirami"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "chat_completions", "POST", "/v1/chat/completions", _I, "Answer a chat; every answer carries its cost.",
        body=s.ChatCompletionRequest, reply=s.ChatCompletion, dialect=Dialect.OPENAI, limited=False, streams=True,
    ),
    Operation(
        "completions", "POST", "/v1/completions", _I, "Continue a prompt as it is.",
        body=s.CompletionRequest, reply=s.Completion, dialect=Dialect.OPENAI, limited=False, streams=True,
    ),
    Operation(
        "embeddings", "POST", "/v1/embeddings", _I, "Vectors of texts, billed by the tokens read.",
        body=s.EmbeddingRequest, reply=s.EmbeddingList, dialect=Dialect.OPENAI, limited=False,
    ),
    Operation(
        "responses", "POST", "/v1/responses", _I, "Answer in the dialect of responses; nothing is kept.",
        body=s.ResponseRequest, reply=s.ResponseReply, dialect=Dialect.OPENAI, limited=False, streams=True,
    ),
    Operation("legacy_chat", "POST", "/chat", _I, "The original's chat; use /v1/completions.",
              body=s.LegacyChatRequest, reply=s.LegacyChatReply, limited=False),
    Operation("legacy_chat_stream", "POST", "/chat/stream", _I, "The original's token stream; use /v1/completions.",
              body=s.LegacyChatRequest, media="text/event-stream", limited=False, streams=True),
    Operation("models", "GET", "/v1/models", _R, "Models served here or by peers, with prices.", reply=s.ModelList,
              dialect=Dialect.OPENAI, limited=False),
    Operation("model", "GET", "/v1/models/{model}", _R, "One model.", reply=s.ModelEntry, dialect=Dialect.OPENAI,
              limited=False),
    Operation("installed_models", "GET", f"{_T}/models", _R, "Models of this machine and of the catalogue.",
              reply=s.ModelsReply),
    Operation("change_model", "POST", f"{_T}/models", _A, "Begin to pull, load or unload a model.",
              body=s.ModelRequest, reply=s.ModelReport, success=202),
    Operation("remove_model", "DELETE", f"{_T}/models", _A, "Delete the files of a model that is not in use.",
              query=s.ModelQuery, reply=s.RemovedModel),
    Operation("balance", "GET", f"{_T}/balance", _R, "Balance of an account, by default the caller's.",
              query=s.BalanceQuery, reply=s.BalanceReply),
    Operation("trades", "GET", f"{_T}/trades", _R, "Trades, newest first.", query=s.TradesQuery, reply=s.TradesReply),
    Operation("trade", "GET", f"{_T}/trades/{{id}}", _R, "One trade with its signatures.", reply=s.TradeEntry),
    Operation("trade_proof", "GET", f"{_T}/trades/{{id}}/proof", _R, "Inclusion proof of a trade.",
              reply=s.ProofReply),
    Operation("trade_receipt", "GET", f"{_T}/trades/{{id}}/receipt", _R, "Receipt file of a trade (RFC 8785)."),
    Operation("records", "GET", f"{_T}/records", _R, "Everything booked, of every kind, newest first.",
              query=s.RecordsQuery, reply=s.RecordsReply),
    Operation("record", "GET", f"{_T}/records/{{id}}", _R, "One record with its canonical bytes and signatures.",
              reply=s.RecordEntry),
    Operation("record_proof", "GET", f"{_T}/records/{{id}}/proof", _R, "Inclusion proof of a record.",
              reply=s.ProofReply),
    Operation("log_head", "GET", f"{_T}/log/head", _R, "Signed tree head over everything booked.",
              reply=s.HeadEntry),
    Operation("log_consistency", "GET", f"{_T}/log/consistency", _R, "Consistency proof between two sizes.",
              query=s.ConsistencyQuery, reply=s.ConsistencyReply),
    Operation("log_state", "GET", f"{_T}/log/state", _A, "The book added up anew: state hash and sum of all accounts.",
              reply=s.StateReply),
    Operation("network", "GET", f"{_T}/network", _R, "Totals of the network as this book sees it.",
              reply=s.NetworkReply),
    Operation("pricing", "GET", f"{_T}/pricing", _R, "Prices now, and what moves them.", reply=s.PricingReply),
    Operation("quote", "POST", f"{_T}/quote", _I, "The price of a chat call before it is made; nothing is held.",
              body=s.QuoteRequest, reply=s.QuoteReply),
    Operation("providers", "GET", f"{_T}/providers", _R, "Who serves a model, the best first, and at what price.",
              query=s.ProvidersQuery, reply=s.ProvidersReply),
    Operation("peers", "GET", f"{_T}/peers", _R, "Every peer known, what it offers, and why nothing is bought from it.",
              query=s.PeersQuery, reply=s.PeersReply),
    Operation("topology", "GET", f"{_T}/topology", _R, "This node and the connections it has.",
              reply=s.TopologyReply),
    Operation("mesh", "GET", f"{_T}/mesh", _R, "This node on the mesh: selling, buying, and what leaves the machine.",
              reply=s.MeshReport),
    Operation("frauds", "GET", f"{_T}/frauds", _R, "Keys that are proven guilty by their own signatures.",
              query=s.FraudsQuery, reply=s.FraudsReply),
    Operation("fraud", "GET", f"{_T}/frauds/{{id}}", _R, "Fraud proof file (RFC 8785); it stands for itself."),
    Operation("set_selling", "POST", f"{_T}/mesh/selling", _A, "Take no new strangers, or take them again.",
              body=s.SellingRequest, reply=s.SellingReply),
    Operation("earnings", "GET", f"{_T}/earnings", _R, "What this node was paid, by day, payer and model.",
              query=s.EarningsQuery, reply=s.EarningsReply),
    Operation("schedule", "POST", f"{_T}/schedule", _R, "The provider to ask for a model, and its estimate.",
              body=s.ScheduleRequest, reply=s.ScheduleReply),
    Operation("route", "GET", f"{_T}/route", _R, "The best provider by cost, quality or both.",
              query=s.RouteQuery, reply=s.RouteReply),
    Operation("usage", "GET", f"{_T}/usage", _R, "Tokens, TRM, requests and FLOP of an account, by day.",
              query=s.UsageQuery, reply=s.UsageReply),
    Operation("su_supply", "GET", f"{_T}/su/supply", _R, "Cap, minted, epoch, rates.", reply=s.SupplyReply),
    Operation("settlement", "GET", "/settlement", _R, "Signed statement of the trades of a window (JSON or CSV).",
              query=s.SettlementQuery, also=("text/csv",)),
    Operation("anchor", "GET", f"{_T}/anchor", _R, "OP_RETURN payload over the newest signed head; not broadcast.",
              query=s.AnchorQuery, reply=s.AnchorReply),
    Operation("agent_status", "GET", f"{_T}/agent/status", _R, "The node's own agent: limits, its day, its loop.",
              reply=s.AgentStatus),
    Operation("agent_task", "POST", f"{_T}/agent/task", _I,
              "Have the agent do something, here or at a peer, within its limits.",
              body=s.AgentTaskRequest, reply=s.AgentTaskReply),
    Operation("set_agent_preferences", "POST", f"{_T}/agent/preferences", _A, "Set what the agent may do.",
              body=s.AgentPreferencesRequest, reply=s.AgentPreferences),
    Operation("transfer", "POST", f"{_T}/transfer", _A, "Give owned TRM of the node to one of its accounts.",
              body=s.TransferRequest, reply=s.TransferReply, idempotent=True),
    Operation("accounts", "GET", f"{_T}/accounts", _A, "Hosted accounts.", reply=s.AccountList),
    Operation("create_account", "POST", f"{_T}/accounts", _A, "Create a hosted account with a welcome line.",
              body=s.AccountRequest, reply=s.AccountEntry, idempotent=True),
    Operation("disable_account", "POST", f"{_T}/accounts/{{id}}/disable", _A, "Stop an account from spending.",
              reply=s.AccountEntry),
    Operation("safety", "GET", f"{_T}/safety", _R, "Kill switch, limits, breaker and the last denials.",
              query=s.SafetyQuery, reply=s.SafetyReply),
    Operation("kill", "POST", f"{_T}/kill", _A, "Freeze or release all spending.", body=s.KillRequest,
              reply=s.KillReply, limited=False),
    Operation("set_policy", "POST", f"{_T}/policy", _A, "Set the budgets of an account.", body=s.PolicyRequest,
              reply=s.PolicyReply, limited=False),
    Operation("approvals", "GET", f"{_T}/approvals", _A, "Spends that wait for a person, and what became of them.",
              reply=s.ApprovalList),
    Operation("approve", "POST", f"{_T}/approvals/{{id}}/approve", _A,
              "Permit a waiting spend, once, within ten minutes.", body=s.DecisionRequest,
              reply=s.ApprovalEntry, limited=False),
    Operation("deny", "POST", f"{_T}/approvals/{{id}}/deny", _A, "Refuse a waiting spend.", body=s.DecisionRequest,
              reply=s.ApprovalEntry, limited=False),
    Operation("tokens", "GET", f"{_T}/tokens", _A, "Unexpired tokens, by hash.", reply=s.TokenList),
    Operation("issue_token", "POST", f"{_T}/tokens/issue", _A, "Issue a token.", body=s.TokenRequest,
              reply=s.IssuedToken),
    Operation("revoke_token", "POST", f"{_T}/tokens/revoke", _A, "Revoke a token at once.", body=s.RevokeRequest,
              reply=s.RevokeReply),
    Operation("rotate_token", "POST", f"{_T}/tokens/rotate", _A, "Replace a token, with a period of grace.",
              body=s.RotateRequest, reply=s.IssuedToken),
    Operation("protocol", "GET", f"{_T}/protocol", _R, "Versions and feature flags.", reply=s.ProtocolReply),
    Operation("manifest", "GET", "/.well-known/tirami-agent.json", _P, "What this node is and offers.",
              reply=s.ManifestReply, limited=False),
    Operation("legal", "GET", "/legal", _P, "TRM is not an investment.", media="text/plain", limited=False),
    Operation("create_invite", "POST", f"{_T}/invites", _A, "Make an invitation to this node, for one newcomer.",
              body=s.InviteRequest, reply=s.InviteReply),
    Operation("invites", "GET", f"{_T}/invites", _A, "Invitations that have not expired, without their secrets.",
              reply=s.InviteList),
    Operation("revoke_invite", "POST", f"{_T}/invites/revoke", _A, "Take back an invitation that nobody has used.",
              body=s.InviteRevocation, reply=s.InviteEntry),
    Operation("join", "POST", f"{_T}/join", _A, "Come to another node by its invitation, and stay connected to it.",
              body=s.JoinRequest, reply=s.JoinReply),
    Operation("key", "GET", f"{_T}/key", _R, "Whether a key has ended, and who acts for it now.",
              query=s.KeyQuery, reply=s.KeyReply),
    Operation("rotate_key", "POST", f"{_T}/key/rotate", _A, "End this node's key for good, in favour of a successor.",
              body=s.KeyRotationRequest, reply=s.KeyEndedReply),
    Operation("revoke_key", "POST", f"{_T}/key/revoke", _A, "End this node's key for good, in favour of nobody.",
              body=s.KeyRevocationRequest, reply=s.KeyEndedReply),
    Operation("backup", "POST", f"{_T}/backup", _A, "Lay down a consistent copy of the journal in the data directory.",
              reply=s.BackupReply),
    Operation("status", "GET", "/status", _R, "What this node is doing.", reply=s.StatusReply, limited=False),
    Operation("metrics", "GET", "/metrics", _R, "Prometheus metrics, as text 0.0.4 or OpenMetrics.",
              media="text/plain", limited=False),
    Operation("health", "GET", "/health", _P, "Whether a model is loaded.", reply=s.HealthReply, limited=False),
    Operation("healthz", "GET", "/healthz", _P, "Alive.", media="text/plain", limited=False),
    Operation("readyz", "GET", "/readyz", _P, "Ready to serve; 503 when not.", reply=s.ReadyReply, limited=False),
)  # fmt: skip

BY_NAME = {operation.name: operation for operation in OPERATIONS}
