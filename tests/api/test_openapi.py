"""The OpenAPI document: valid, complete, and nothing in it that is not in the table."""

import json
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.api.conftest import Target
from tirami.api import OPERATIONS, Operation, Scope, openapi

DOCUMENT = openapi("1.2.3")


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_operation_is_in_it_once_with_its_scope() -> None:
    found = [entry["operationId"] for path in DOCUMENT["paths"].values() for entry in path.values()]
    assert sorted(found) == sorted(operation.name for operation in OPERATIONS)
    for operation in OPERATIONS:
        entry = described(operation)
        assert entry["operationId"] == operation.name
        assert entry["x-tirami-scope"] == operation.scope.wire
        assert (entry["security"] == []) == (operation.scope is Scope.PUBLIC)


@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.name for operation in OPERATIONS])
def test_shapes_are_the_ones_of_the_table(operation: Operation) -> None:
    entry = described(operation)
    names = [parameter["name"] for parameter in entry.get("parameters", ()) if parameter["in"] == "path"]
    assert tuple(names) == operation.parameters
    queried = {parameter["name"] for parameter in entry.get("parameters", ()) if parameter["in"] == "query"}
    assert queried == (set(operation.query.model_fields) if operation.query else set())
    assert ("requestBody" in entry) == (operation.body is not None)
    content = entry["responses"][str(operation.success)]["content"]
    assert ("text/event-stream" in content) == operation.streams
    if operation.reply is not None:
        assert content["application/json"]["schema"]["$ref"].endswith(f"/{operation.reply.__name__}")


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].removeprefix("#/components/schemas/") in schemas
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(DOCUMENT)


def test_errors_name_the_one_envelope() -> None:
    for operation in OPERATIONS:
        for status, response in described(operation)["responses"].items():
            if status != str(operation.success) and not (operation.name == "readyz" and status == "503"):
                assert response["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Error"


def test_a_running_node_serves_this_document(admin_target: Target) -> None:
    served = httpx2.get(f"{admin_target.url}/openapi.json").json()
    served["info"]["version"] = "1.2.3"
    assert served == json.loads(json.dumps(DOCUMENT))
