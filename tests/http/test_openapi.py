"""The OpenAPI document: whole in itself, and the same set of endpoints as the application."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from http_helpers import ROOT, Api

from dispatcher import errors
from dispatcher.routes import openapi

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture
def document(api: Api) -> Any:
    return api.get("/openapi.json").json


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within a value."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [(method, path, told) for path, item in document["paths"].items() for method, told in item.items()]


def test_every_route_is_described_and_nothing_else(api: Api, document: Any) -> None:
    served = set()
    for rule in api.app.url_map.iter_rules():
        if rule.endpoint.startswith("dashboard."):  # pages for people
            continue
        path = re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)
        served |= {(method.lower(), path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_it_has_the_structure_of_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert document.keys() <= {"openapi", "info", "paths", "components", "security"}
    assert {"title", "version"} <= document["info"].keys()
    assert document["components"].keys() <= {"schemas", "securitySchemes"}
    for scheme in (name for need in document["security"] for name in need):
        assert document["components"]["securitySchemes"][scheme] == {"type": "http", "scheme": "bearer"}
    ids = [told["operationId"] for _, _, told in operations(document)]
    assert len(set(ids)) == len(ids)
    for method, path, told in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        known = {"operationId", "summary", "parameters", "requestBody", "responses", "security"}
        assert told.keys() <= known
        assert told["summary"]
        assert all(re.fullmatch(r"[1-5](\d\d|XX)", status) for status in told["responses"])
        assert all(answer["description"] for answer in told["responses"].values())


def test_parameters_are_those_of_the_paths(document: Any) -> None:
    for method, path, told in operations(document):
        parameters = told.get("parameters", [])
        in_path = {one["name"] for one in parameters if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), (method, path)
        assert all(one["required"] is True for one in parameters if one["in"] == "path")
        assert all(one["schema"] for one in parameters)
        names = [(one["in"], one["name"]) for one in parameters]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", ["/tasks", "/task/{task_id}", "/health", "/stats", "/task/{task_id}/result"])
def test_query_arguments_are_those_that_are_taken(api: Api, document: Any, path: str) -> None:
    api.submit()
    told = document["paths"][path]["get"]
    values = {"status": "pending", "wait": "0"}
    for one in told.get("parameters", []):
        if one["in"] == "query":
            value = values.get(one["name"], "1")
            assert api.get(f"{path.replace('{task_id}', '1')}?{one['name']}={value}").status == 200
    taken = {one["name"] for one in told.get("parameters", []) if one["in"] == "query"}
    expected = {
        "/tasks": {"status", "queue", "task_type", "tag", "ids", "limit", "cursor"},
        "/task/{task_id}": {"wait"},
        "/health": {"ready"},
    }
    assert taken == expected.get(path, set())


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = 0
    for value in walk(document):
        if isinstance(reference := value.get("$ref"), str):
            assert reference.startswith("#/components/schemas/")
            assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
            found += 1
    assert found > 20


def test_every_schema_is_a_schema(document: Any) -> None:
    """And each example fits the one that it stands in."""
    schemas = document["components"]["schemas"]
    examples = 0
    for name, schema in schemas.items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.meta.validate(schema)
        validator = jsonschema_rs.validator_for(whole)
        for example in schema.get("examples", []):
            validator.validate(example)
            examples += 1
    assert examples


def test_an_outcome_is_described(document: Any) -> None:
    assert document["components"]["schemas"]["Outcome"]["required"] == ["store_id", "lease_id", "status"]


def test_health_is_open_and_nothing_else(document: Any) -> None:
    unguarded = {path for _, path, told in operations(document) if told.get("security") == []}
    assert unguarded == {"/health"}


def test_operations_tell_what_they_take(document: Any) -> None:
    for method, path, told in operations(document):
        says_it_all = path in ("/task/{task_id}/cancel", "/task/{task_id}/retry")  # the path does
        assert ("requestBody" in told) == (method in ("post", "put", "patch") and not says_it_all), path
    upload = document["paths"]["/result/{lease_id}"]["put"]
    assert {one["name"] for one in upload["parameters"]} == {"lease_id", "store_id"}


def test_every_code_of_an_error_is_in_the_protocol_page() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    ours = {(error.code, error.status) for error in (errors.DispatcherError, *errors.DispatcherError.__subclasses__())}
    told = {(code, int(status)) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)}
    assert told == ours | {("method_not_allowed", 405)}


def test_the_document_is_made_once() -> None:
    assert openapi.document() is openapi.document()
