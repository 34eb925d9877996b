"""The error tree: every class, its code and its status, pinned; the drawing in the docstring is true."""

import re

import pytest

from tirami.core import errors
from tirami.core.errors import (
    BudgetExceeded,
    InsufficientFunds,
    InvalidField,
    JournalCorrupt,
    NoModel,
    RateLimited,
    TiramiError,
)

TABLE = {
    "TiramiError": ("internal_error", 500),
    "RequestError": ("invalid_request", 400),
    "InvalidRequest": ("invalid_request", 400),
    "MalformedJson": ("malformed_json", 400),
    "UnsupportedParameter": ("unsupported_parameter", 400),
    "ContextLengthExceeded": ("context_length_exceeded", 400),
    "RouteNotFound": ("not_found", 404),
    "MethodNotAllowed": ("method_not_allowed", 405),
    "RequestTimeout": ("request_timeout", 408),
    "BodyTooLarge": ("body_too_large", 413),
    "UnsupportedMediaType": ("unsupported_media_type", 415),
    "InvalidField": ("invalid_field", 422),
    "IdempotencyKeyReused": ("idempotency_key_reused", 422),
    "HeadTooLarge": ("headers_too_large", 431),
    "CancelledByClient": ("client_closed_request", 499),
    "AccessError": ("access_denied", 403),
    "MissingToken": ("missing_token", 401),
    "InvalidToken": ("invalid_token", 401),
    "InsufficientScope": ("insufficient_scope", 403),
    "ForeignPayer": ("foreign_payer", 403),
    "NotFound": ("not_found", 404),
    "ModelNotFound": ("model_not_found", 404),
    "AccountNotFound": ("account_not_found", 404),
    "TradeNotFound": ("trade_not_found", 404),
    "RecordNotFound": ("record_not_found", 404),
    "TokenNotFound": ("token_not_found", 404),
    "ProviderNotFound": ("provider_not_found", 404),
    "SpendDenied": ("spend_denied", 403),
    "InsufficientFunds": ("insufficient_funds", 402),
    "BudgetExceeded": ("budget_exceeded", 403),
    "ApprovalRequired": ("approval_required", 403),
    "ApprovalDenied": ("approval_denied", 403),
    "FraudNotFound": ("fraud_not_found", 404),
    "InviteNotFound": ("invite_not_found", 404),
    "ApprovalNotFound": ("approval_not_found", 404),
    "CircuitBreakerOpen": ("circuit_breaker_open", 403),
    "VelocityExceeded": ("velocity_exceeded", 403),
    "AccountDisabled": ("account_disabled", 403),
    "CounterLost": ("counter_lost", 403),
    "SafetyUnknown": ("safety_unknown", 403),
    "KillSwitchActive": ("kill_switch_active", 423),
    "AgentDisabled": ("agent_disabled", 412),
    "LimitError": ("rate_limited", 429),
    "RateLimited": ("rate_limited", 429),
    "UnwitnessedLimit": ("unwitnessed_limit", 429),
    "UnpaidLimit": ("unpaid_limit", 429),
    "QueueFull": ("queue_full", 429),
    "Conflict": ("conflict", 409),
    "EngineError": ("engine_error", 503),
    "NoModel": ("no_model", 503),
    "EngineFailed": ("engine_failed", 503),
    "ProviderStalled": ("provider_stalled", 503),
    "UpstreamUnavailable": ("upstream_unavailable", 503),
    "ModelLoadError": ("model_load_failed", 503),
    "ModelDigestMismatch": ("model_digest_mismatch", 503),
    "TokenizerError": ("tokenizer_unusable", 503),
    "StorageError": ("storage_error", 503),
    "StorageUnavailable": ("storage_unavailable", 503),
    "MeshError": ("mesh_error", 503),
    "PeerUnreachable": ("peer_unreachable", 503),
    "ConnectionLost": ("connection_lost", 503),
    "StreamEnded": ("stream_ended", 503),
    "WireError": ("wire_error", 502),
    "BadQuote": ("bad_quote", 502),
    "PeerRefused": ("peer_refused", 503),
    "NoCommonVersion": ("no_common_version", 502),
    "StartError": ("start_failed", 500),
    "KeyFileError": ("key_file", 500),
    "KeystoreError": ("keystore", 503),
    "ConfigError": ("config", 500),
    "DataDirLocked": ("data_dir_locked", 500),
    "PortTaken": ("port_taken", 500),
    "PublicBindRefused": ("public_bind_refused", 500),
    "JournalCorrupt": ("journal_corrupt", 500),
    "JournalRollback": ("journal_rollback", 500),
    "JournalTooNew": ("journal_too_new", 500),
    "MigrationFailed": ("migration_failed", 500),
    "BackupError": ("backup", 500),
    "RestoreRefused": ("restore_refused", 500),
    "NetworkFileError": ("network_file", 500),
    "VerificationError": ("verification_failed", 400),
    "InvalidSignature": ("invalid_signature", 400),
    "InvalidProof": ("invalid_proof", 400),
    "InvalidReceipt": ("invalid_receipt", 400),
    "InvalidStatement": ("invalid_statement", 400),
    "InvalidReconciliation": ("invalid_reconciliation", 400),
    "NonCanonical": ("non_canonical", 400),
}


def tree(cls: type[TiramiError] = TiramiError) -> dict[str, type[TiramiError]]:
    found = {cls.__name__: cls} if cls.__module__ == errors.__name__ else {}
    for child in cls.__subclasses__():
        found |= tree(child)
    return found


def test_every_class_has_its_code_and_status() -> None:
    assert {name: (cls.code, cls.status) for name, cls in tree().items()} == TABLE


def test_the_drawn_tree_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    parents = {0: "TiramiError"}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^     ([ │]*[├└]─ )(.*)$", line)
        if not match:
            continue
        depth = len(match[1]) // 4
        for name in re.findall(r"[A-Z][A-Za-z]+", match[2].split("  ")[0]):
            drawn[name] = parents[depth - 1] if depth else "TiramiError"
            parents[depth] = name
        stated = re.search(r"(\d{3}) ([a-z_]+)$", match[2])
        if stated:
            assert TABLE[re.findall(r"[A-Z][A-Za-z]+", match[2])[0]] == (stated[2], int(stated[1])), line
    actual = {name: cls.__mro__[1].__name__ for name, cls in tree().items() if name != "TiramiError"}
    assert drawn == actual


def test_the_envelope_has_one_shape() -> None:
    error = InsufficientFunds("not enough", param="max_tokens", needed=9, available=4)
    assert error.envelope("req-7") == {
        "error": {
            "message": "not enough",
            "type": "insufficient_funds",
            "code": "insufficient_funds",
            "param": "max_tokens",
            "request_id": "req-7",
            "status": 402,
            "needed": 9,
            "available": 4,
        }
    }
    assert str(error) == "not enough"


def test_data_never_overwrites_the_shape() -> None:
    error = BudgetExceeded("over", code="fine", status=200, type="x", request_id="y", limit=3)
    fields = error.envelope("req-1")["error"]
    assert isinstance(fields, dict)
    assert (fields["code"], fields["status"], fields["request_id"], fields["limit"]) == (
        "budget_exceeded",
        403,
        "req-1",
        3,
    )


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (InvalidField("x"), None),
        (RateLimited("x"), 1),
        (RateLimited("x", retry_after=7), 7),
        (NoModel("x"), 30),
        (JournalCorrupt("x", entry=4), None),
    ],
)
def test_retry_after(error: TiramiError, seconds: int | None) -> None:
    assert error.retry_after == seconds
