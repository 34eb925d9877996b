"""The OpenAPI 3.1 document, built from the table of operations and nothing else."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tirami.api.operations import OPERATIONS, Dialect, Operation
from tirami.api.scopes import Scope

_REF = "#/components/schemas/{model}"
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param", "request_id", "status"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
                "status": {"type": "integer"},
            },
        }
    },
}
_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": (
        "A name the caller gives this request. Sent again within a day under the same name, it is answered again and "
        "nothing is done again; with another body it is refused (422 idempotency_key_reused)."
    ),
}


def openapi(version: str) -> dict[str, Any]:
    """The document for product ``version``."""
    models: list[tuple[type[BaseModel], Any]] = []
    for operation in OPERATIONS:
        models += [(model, "validation") for model in (operation.body, operation.query) if model is not None]
        models += [(operation.reply, "serialization")] if operation.reply is not None else []
    _, definitions = models_json_schema(models, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, definitions["$defs"])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tirami", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": {**definitions["$defs"], "Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation, definitions: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "x-tirami-scope": operation.scope.wire,
        "security": [] if operation.scope is Scope.PUBLIC else [{"bearer": []}, {}],
        "responses": _responses(operation),
    }
    parameters = [_path_parameter(name) for name in operation.parameters] + _query(operation, definitions)
    parameters += [_IDEMPOTENCY_KEY] if operation.idempotent else []
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name != "model":
        schema["pattern"] = "^[0-9a-f]{64}$"
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(operation: Operation, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = definitions[operation.query.__name__]
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": shape}
        for name, shape in schema.get("properties", {}).items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {operation.media: {"schema": {"type": "string"}}}
    if operation.reply is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=operation.reply.__name__)}}}
    elif operation.media == "application/json":
        content = {"application/json": {"schema": {"type": "object"}}}
    content |= {media: {"schema": {"type": "string"}} for media in operation.also}
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}
    responses: dict[str, Any] = {str(operation.success): {"description": "Success", "content": content}}
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for status in _statuses(operation):
        responses[str(status)] = {"description": _MEANING[status], **error}
    return responses


_MEANING = {
    400: "The request is malformed",
    401: "No token, or not a good one",
    402: "The payer cannot cover it",
    403: "Not allowed, or beyond a budget",
    404: "No such thing",
    405: "Wrong method",
    408: "The body did not arrive in time",
    409: "In conflict with what is",
    412: "This node has no agent",
    413: "Body too large",
    415: "Not JSON",
    422: "Well-formed, but of the wrong shape",
    423: "The kill switch is active",
    429: "Too many requests",
    502: "Another node answered with nonsense",
    503: "Not able to serve now",
}


_MAY_CONFLICT = frozenset(
    {
        "backup",
        "change_model",
        "create_invite",
        "issue_token",
        "join",
        "kill",
        "remove_model",
        "revoke_invite",
        "revoke_key",
        "rotate_token",
    }
)


def _statuses(operation: Operation) -> list[int]:
    if operation.scope is Scope.PUBLIC:
        return [405, 503]
    statuses = {401, 403, 405, 429, 503, 400}
    if operation.parameters or operation.query is not None or operation.body is not None:
        statuses |= {404, 422 if operation.dialect is Dialect.TIRAMI else 400}
    if operation.body is not None:
        statuses |= {408, 413, 415}
    if operation.scope is Scope.INFERENCE or operation.name in ("transfer", "schedule", "rotate_key"):
        statuses |= {402, 423, 409}
    if operation.name == "create_account":
        statuses |= {423}
    if operation.name in _MAY_CONFLICT:
        statuses |= {409}
    if operation.scope is Scope.INFERENCE or operation.name == "join":
        statuses |= {502}
    if operation.name in ("agent_task", "set_agent_preferences"):
        statuses |= {412}
    return sorted(statuses)
