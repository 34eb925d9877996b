"""Every error this product raises on purpose: one tree, each class with a stable code and an HTTP status.

::

    TiramiError
     ├─ RequestError                 the caller asked wrongly
     │   ├─ InvalidRequest           400 invalid_request
     │   ├─ MalformedJson            400 malformed_json
     │   ├─ UnsupportedParameter     400 unsupported_parameter
     │   ├─ ContextLengthExceeded    400 context_length_exceeded
     │   ├─ RouteNotFound            404 not_found
     │   ├─ MethodNotAllowed         405 method_not_allowed
     │   ├─ RequestTimeout           408 request_timeout
     │   ├─ BodyTooLarge             413 body_too_large
     │   ├─ UnsupportedMediaType     415 unsupported_media_type
     │   ├─ InvalidField             422 invalid_field
     │   ├─ IdempotencyKeyReused     422 idempotency_key_reused
     │   ├─ HeadTooLarge             431 headers_too_large
     │   └─ CancelledByClient        499 client_closed_request
     ├─ AccessError                  the caller may not
     │   ├─ MissingToken             401 missing_token
     │   ├─ InvalidToken             401 invalid_token
     │   ├─ InsufficientScope        403 insufficient_scope
     │   └─ ForeignPayer             403 foreign_payer
     ├─ NotFound                     404 not_found
     │   ├─ ModelNotFound            404 model_not_found
     │   ├─ AccountNotFound          404 account_not_found
     │   ├─ TradeNotFound            404 trade_not_found
     │   ├─ RecordNotFound           404 record_not_found
     │   ├─ TokenNotFound            404 token_not_found
     │   ├─ ApprovalNotFound         404 approval_not_found
     │   ├─ FraudNotFound            404 fraud_not_found
     │   ├─ InviteNotFound           404 invite_not_found
     │   └─ ProviderNotFound         404 provider_not_found
     ├─ SpendDenied                  the gate said no
     │   ├─ InsufficientFunds        402 insufficient_funds
     │   ├─ BudgetExceeded           403 budget_exceeded
     │   ├─ VelocityExceeded         403 velocity_exceeded
     │   ├─ CircuitBreakerOpen       403 circuit_breaker_open
     │   ├─ ApprovalRequired         403 approval_required
     │   ├─ ApprovalDenied           403 approval_denied
     │   ├─ AccountDisabled          403 account_disabled
     │   ├─ CounterLost              403 counter_lost
     │   ├─ SafetyUnknown            403 safety_unknown
     │   └─ KillSwitchActive         423 kill_switch_active
     ├─ LimitError                   later, perhaps
     │   ├─ RateLimited              429 rate_limited
     │   ├─ UnwitnessedLimit         429 unwitnessed_limit
     │   ├─ UnpaidLimit              429 unpaid_limit
     │   └─ QueueFull                429 queue_full
     ├─ Conflict                     409 conflict
     ├─ AgentDisabled                412 agent_disabled
     ├─ EngineError                  inference failed
     │   ├─ NoModel                  503 no_model
     │   ├─ EngineFailed             503 engine_failed
     │   │   ├─ ProviderStalled      503 provider_stalled
     │   │   └─ UpstreamUnavailable  503 upstream_unavailable
     │   ├─ ModelLoadError           503 model_load_failed
     │   ├─ ModelDigestMismatch      503 model_digest_mismatch
     │   └─ TokenizerError           503 tokenizer_unusable
     ├─ StorageError
     │   └─ StorageUnavailable       503 storage_unavailable
     ├─ MeshError                    another node, or the way to it
     │   ├─ PeerUnreachable          503 peer_unreachable
     │   ├─ ConnectionLost           503 connection_lost
     │   ├─ StreamEnded              503 stream_ended
     │   ├─ WireError                502 wire_error
     │   ├─ BadQuote                 502 bad_quote
     │   ├─ PeerRefused              503 peer_refused
     │   └─ NoCommonVersion          502 no_common_version
     ├─ StartError                   the node does not start
     │   ├─ KeyFileError, KeystoreError, ConfigError, NetworkFileError
     │   ├─ DataDirLocked, PortTaken, PublicBindRefused
     │   ├─ JournalCorrupt, JournalRollback, JournalTooNew, MigrationFailed
     │   └─ BackupError, RestoreRefused
     └─ VerificationError            400 verification_failed
         ├─ InvalidSignature         400 invalid_signature
         ├─ InvalidProof             400 invalid_proof
         ├─ InvalidReceipt           400 invalid_receipt
         ├─ InvalidStatement         400 invalid_statement
         ├─ InvalidReconciliation    400 invalid_reconciliation
         └─ NonCanonical             400 non_canonical
"""

from typing import ClassVar


class TiramiError(Exception):
    """Base of the tree.

    Args:
        message: what went wrong, for people; never holds a credential or a prompt.
        param: name of the offending field, where there is one.
        retry_after: seconds after which trying again may help; the class's default when not given.
        data: further facts, JSON values, part of the envelope; never one of its fixed fields.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_retry_after: ClassVar[int | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: int | None = None, **data: object
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.data = data

    def envelope(self, request_id: str) -> dict[str, dict[str, object]]:
        """The one JSON error shape of every route."""
        error: dict[str, object] = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "param": self.param,
            "request_id": request_id,
            "status": self.status,
        }
        return {"error": error | {name: value for name, value in self.data.items() if name not in error}}


class RequestError(TiramiError):
    """The caller asked wrongly."""

    code = "invalid_request"
    status = 400
    type = "invalid_request_error"


class InvalidRequest(RequestError):
    """A value is missing, of the wrong type or out of range."""


class MalformedJson(RequestError):
    """The body is not JSON."""

    code = "malformed_json"


class UnsupportedParameter(RequestError):
    """A parameter that this node does not serve; ``param`` names it."""

    code = "unsupported_parameter"


class ContextLengthExceeded(RequestError):
    """Prompt and answer do not fit the context: the model's own, or ``infer.context``."""

    code = "context_length_exceeded"


class RouteNotFound(RequestError):
    """There is no such path."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The path is there, but not for this method."""

    code = "method_not_allowed"
    status = 405


class RequestTimeout(RequestError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class BodyTooLarge(RequestError):
    """The body is longer than ``api.body_limit`` or ``api.openai_body_limit`` allows."""

    code = "body_too_large"
    status = 413


class HeadTooLarge(RequestError):
    """The request's first line and headers are too long."""

    code = "headers_too_large"
    status = 431


class UnsupportedMediaType(RequestError):
    """The body says that it is no JSON."""

    code = "unsupported_media_type"
    status = 415


class InvalidField(RequestError):
    """A field is missing or holds what it may not; ``param`` names it."""

    code = "invalid_field"
    status = 422


class IdempotencyKeyReused(RequestError):
    """The key stands for another request of this caller; that one is what was done."""

    code = "idempotency_key_reused"
    status = 422


class CancelledByClient(RequestError):
    """The client went away; nobody reads this answer."""

    code = "client_closed_request"
    status = 499


class AccessError(TiramiError):
    """The caller may not."""

    code = "access_denied"
    status = 403
    type = "permission_error"


class MissingToken(AccessError):
    """This operation needs a token."""

    code = "missing_token"
    status = 401
    type = "authentication_error"


class InvalidToken(AccessError):
    """The token is unknown, expired or revoked."""

    code = "invalid_token"
    status = 401
    type = "authentication_error"


class InsufficientScope(AccessError):
    """The token's scope does not reach this operation; ``needed`` names the one that does."""

    code = "insufficient_scope"


class ForeignPayer(AccessError):
    """The caller may not spend for the account it named."""

    code = "foreign_payer"


class NotFound(TiramiError):
    """What was named is not here."""

    code = "not_found"
    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    """No model of this name can be served."""

    code = "model_not_found"


class AccountNotFound(NotFound):
    """No such account is hosted here."""

    code = "account_not_found"


class TradeNotFound(NotFound):
    """No such trade stands in this node's book."""

    code = "trade_not_found"


class RecordNotFound(NotFound):
    """No such record stands in this node's book."""

    code = "record_not_found"


class ApprovalNotFound(NotFound):
    """No such approval waits here."""

    code = "approval_not_found"


class TokenNotFound(NotFound):
    """No such token is good here."""

    code = "token_not_found"


class FraudNotFound(NotFound):
    """No proof of such an id, or against such a key, is known here."""

    code = "fraud_not_found"


class InviteNotFound(NotFound):
    """No such invitation is open here."""

    code = "invite_not_found"


class ProviderNotFound(NotFound):
    """Nobody serves this at such a price."""

    code = "provider_not_found"


class SpendDenied(TiramiError):
    """The gate said no; nothing was signed, held or charged."""

    code = "spend_denied"
    status = 403
    type = "spend_denied"


class InsufficientFunds(SpendDenied):
    """The account cannot cover the most that this may cost: ``needed`` and ``available`` say how much."""

    code = "insufficient_funds"
    status = 402
    type = "insufficient_funds"


class BudgetExceeded(SpendDenied):
    """More than the account's budget a request, an hour or for life; ``window`` says which."""

    code = "budget_exceeded"


class VelocityExceeded(SpendDenied):
    """One spend too many within a minute; it opens the account's circuit breaker."""

    code = "velocity_exceeded"


class CircuitBreakerOpen(SpendDenied):
    """Too many errors in a row, or too many spends in a minute; spending goes on after ``retry_after``."""

    code = "circuit_breaker_open"


class ApprovalRequired(SpendDenied):
    """A person has to allow this spend; ``approval_id`` names the request that waits, if there was room for one."""

    code = "approval_required"


class ApprovalDenied(SpendDenied):
    """A person has denied this spend."""

    code = "approval_denied"


class AccountDisabled(SpendDenied):
    """The account is switched off, its key has ended, or a fraud is proven against it."""

    code = "account_disabled"


class CounterLost(SpendDenied):
    """The key has signed debits this journal does not know, or its incarnation has ended (PROTOCOL B9)."""

    code = "counter_lost"


class SafetyUnknown(SpendDenied):
    """The gate could not determine safety, so it denies."""

    code = "safety_unknown"


class KillSwitchActive(SpendDenied):
    """All spending of this node is frozen until somebody releases it."""

    code = "kill_switch_active"
    status = 423


class LimitError(TiramiError):
    """Too much at once; later, perhaps."""

    code = "rate_limited"
    status = 429
    type = "rate_limit_error"
    default_retry_after = 1


class RateLimited(LimitError):
    """More requests than ``api.rate_per_second`` lets this caller make."""


class UnwitnessedLimit(LimitError):
    """One payer and one provider trade at most ``limit`` TRM a day without witnesses (PROTOCOL B6)."""

    code = "unwitnessed_limit"


class UnpaidLimit(LimitError):
    """Of more than one answer, the payer left ``limit`` TRM or more unpaid in 24 hours (PROTOCOL B11)."""

    code = "unpaid_limit"


class QueueFull(LimitError):
    """No place to wait is left, or a quota of today is used up."""

    code = "queue_full"


class Conflict(TiramiError):
    """It contradicts what is there now."""

    code = "conflict"
    status = 409
    type = "invalid_request_error"


class AgentDisabled(TiramiError):
    """This node has no agent (``agent.enabled``)."""

    code = "agent_disabled"
    status = 412
    type = "invalid_request_error"


class EngineError(TiramiError):
    """Inference failed."""

    code = "engine_error"
    status = 503


class NoModel(EngineError):
    """No model is loaded."""

    code = "no_model"
    default_retry_after = 30


class EngineFailed(EngineError):
    """The engine has stopped, is starting again or broke off."""

    code = "engine_failed"
    default_retry_after = 5


class ProviderStalled(EngineFailed):
    """The other node is there, says it works, and brings no answer in the time anybody would wait for one."""

    code = "provider_stalled"


class UpstreamUnavailable(EngineFailed):
    """The server behind this node cannot be reached, or says that it is not available: it did nothing yet."""

    code = "upstream_unavailable"


class ModelLoadError(EngineError):
    """The model cannot be fetched or loaded."""

    code = "model_load_failed"


class ModelDigestMismatch(EngineError):
    """The file is not the one its digest says."""

    code = "model_digest_mismatch"


class TokenizerError(EngineError):
    """A model's tokenizer cannot be read, does not fit its digest or is of an unknown kind.

    What it counts could not be checked, so nothing of that model is bought.
    """

    code = "tokenizer_unusable"


class StorageError(TiramiError):
    """The journal failed."""

    code = "storage_error"
    status = 503


class StorageUnavailable(StorageError):
    """The journal cannot be read or written now."""

    code = "storage_unavailable"


class MeshError(TiramiError):
    """Another node, or the way to it, failed this one."""

    code = "mesh_error"
    status = 503


class PeerUnreachable(MeshError):
    """No connection to this peer came about: nobody answers there, or not with that key."""

    code = "peer_unreachable"
    default_retry_after = 5


class ConnectionLost(MeshError):
    """A connection, or one stream of it, broke off; what was under way on it did not end."""

    code = "connection_lost"
    default_retry_after = 5


class StreamEnded(MeshError):
    """The peer finished its side, in order; the regular end of whoever reads a stream to its end."""

    code = "stream_ended"


class WireError(MeshError):
    """A peer spoke nonsense: an unknown or oversized frame, or a body that is not what its type says."""

    code = "wire_error"
    status = 502


class BadQuote(MeshError):
    """A provider offered something else than it was asked for; ``param`` is the field."""

    code = "bad_quote"
    status = 502


class PeerRefused(MeshError):
    """A peer said no; ``refused`` is the code it gave."""

    code = "peer_refused"


class NoCommonVersion(MeshError):
    """The peer is there and speaks no version of the protocol that this node speaks."""

    code = "no_common_version"
    status = 502


class StartError(TiramiError):
    """The node refuses to start; the CLI prints the message and exits 1."""

    code = "start_failed"


class KeyFileError(StartError):
    """A key or token file cannot be read, or others may read it."""

    code = "key_file"


class KeystoreError(StartError):
    """Hosted keys do not open under ``keystore.passphrase``. A request that needs such a key is answered 503."""

    code = "keystore"
    status = 503


class ConfigError(StartError):
    """A setting is wrong; ``param`` is its dotted key."""

    code = "config"


class DataDirLocked(StartError):
    """Another node runs in this data directory."""

    code = "data_dir_locked"


class PortTaken(StartError):
    """Somebody else listens on this port."""

    code = "port_taken"


class PublicBindRefused(StartError):
    """Another address than loopback needs a token first."""

    code = "public_bind_refused"


class JournalCorrupt(StartError):
    """The journal is damaged; ``entry`` in the data names the journal entry."""

    code = "journal_corrupt"


class JournalRollback(StartError):
    """The journal is older than what this node remembers, or gone."""

    code = "journal_rollback"


class JournalTooNew(StartError):
    """A newer version of the program wrote this journal."""

    code = "journal_too_new"


class MigrationFailed(StartError):
    """The journal is of an earlier schema and stays so; ``schema`` in the data names it."""

    code = "migration_failed"


class BackupError(StartError):
    """An archive cannot be written, cannot be read or does not hold what it says."""

    code = "backup"


class RestoreRefused(StartError):
    """The archive is good and may not be put where it was to go."""

    code = "restore_refused"


class NetworkFileError(StartError):
    """The network file cannot be read or is none; ``param`` names the setting."""

    code = "network_file"


class VerificationError(TiramiError):
    """What was shown does not prove what it should."""

    code = "verification_failed"
    status = 400
    type = "invalid_request_error"


class InvalidSignature(VerificationError):
    """A signature is not the one of its key."""

    code = "invalid_signature"


class InvalidProof(VerificationError):
    """A proof or a record does not hold."""

    code = "invalid_proof"


class InvalidReceipt(VerificationError):
    """The file is no receipt, or one that does not hold."""

    code = "invalid_receipt"


class InvalidStatement(VerificationError):
    """The file is no settlement statement, or one that does not add up."""

    code = "invalid_statement"


class InvalidReconciliation(VerificationError):
    """The other side of a set reconciliation broke its rules."""

    code = "invalid_reconciliation"


class NonCanonical(VerificationError):
    """Bytes are not in the one form that they may have."""

    code = "non_canonical"
