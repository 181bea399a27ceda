"""The OpenAPI document: whole in itself, and the same set of endpoints as the application."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from http_helpers import ROOT, Api

from dispatcher import errors
from dispatcher.routes.api.document import document as made

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
        if rule.endpoint.startswith(("dashboard.", "docs.")):  # pages for people
            continue
        path = re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)
        served |= {(method.lower(), path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_it_has_the_structure_of_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert document.keys() <= {"openapi", "info", "tags", "paths", "components", "security"}
    assert {"title", "version"} <= document["info"].keys()
    assert document["components"].keys() <= {"schemas", "securitySchemes"}
    for scheme in (name for need in document["security"] for name in need):
        assert document["components"]["securitySchemes"][scheme] == {
            "type": "http",
            "scheme": "bearer",
            "description": "DISPATCHER_TOKEN",
        }
    ids = [told["operationId"] for _, _, told in operations(document)]
    assert len(set(ids)) == len(ids)
    for method, path, told in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        known = {"operationId", "tags", "summary", "description", "parameters", "requestBody", "responses", "security"}
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
    assert made() is made()


def test_every_operation_says_what_it_does_with_an_example_and_its_errors(document: Any) -> None:
    for method, path, told in operations(document):
        place = f"{method} {path}"
        assert told["description"], place
        assert told["tags"][0] in {tag["name"] for tag in document["tags"]}, place
        if "requestBody" in told:
            assert all("example" in one or kind == "*/*" for kind, one in told["requestBody"]["content"].items()), place
        answers = told["responses"]
        assert any(
            "example" in one for status in answers if status < "4" for one in answers[status]["content"].values()
        )
        assert {"400", "403", "500", "503"} <= answers.keys(), place
        assert ("401" in answers) == (path != "/health"), place
        for status in answers.keys() - ({"503"} if path == "/health" else set()):
            if status >= "4":
                assert re.match(r"`\w+`: .", answers[status]["description"]), (place, status)


def test_every_example_fits_its_schema(document: Any) -> None:
    checked = 0
    for _, path, told in operations(document):
        bodies = [told["requestBody"]] if "requestBody" in told else []
        for body in (*bodies, *told["responses"].values()):
            for content in body["content"].values():
                if "example" in content and "schema" in content:
                    whole = {**content["schema"], "components": document["components"]}
                    found = [str(error) for error in jsonschema_rs.validator_for(whole).iter_errors(content["example"])]
                    assert not found, (path, found)
                    checked += 1
    assert checked > 60


def test_examples_of_requests_are_taken(api: Api, document: Any) -> None:
    """Each gets an answer that the document promises; those that need something beforehand may find nothing."""
    for method, path, told in operations(document):
        example = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        if example is None or path == "/migrate":
            continue
        real = path
        for one in told.get("parameters", ()):
            real = real.replace(f"{{{one['name']}}}", str(one.get("example")))
        reply = api.ask(method.upper(), real, example)
        assert str(reply.status) in told["responses"], (path, reply)
        assert reply.status < 400 or reply.status == 404, (path, reply)


def test_every_argument_says_what_it_means_and_units_are_told(document: Any) -> None:
    for _, path, told in operations(document):
        assert all(one["description"] for one in told.get("parameters", ())), path
    for word in ("_seconds", "MiB", "bytes", "RFC 3339"):
        assert word in document["info"]["description"]


def test_replies_about_what_has_happened_fit_their_schemas(api: Api, document: Any) -> None:
    api.post("/schedules", {"name": "nightly", "every": "1h", "task": {"task_type": "noop"}})
    for status in ("completed", "failed"):
        lease = api.lease(max_attempts=1, tags=["t"])["lease_id"]
        api.beat(len(lease), lease, host={"outbox": 0})
        api.report(api.outcome(lease, status, result={"n": 1}, error="no", run_seconds=0.5))
    api.lease()
    for method, path, body in (
        ("get", "/task/1", None), ("get", "/task/2", None), ("get", "/task/3", None), ("get", "/tasks", None),
        ("post", "/wait-tasks", {"task_ids": [1, 2, 3]}), ("get", "/workers", None), ("get", "/stats", None),
        ("get", "/queues", None), ("get", "/schedules", None), ("get", "/schedules/nightly", None),
        ("get", "/retention", None), ("post", "/task/1/retry", None), ("get", "/task/1/log", None),
    ):  # fmt: skip
        template = re.sub(r"/task/\d", "/task/{task_id}", path).replace("/nightly", "/{name}")
        schema = document["paths"][template][method]["responses"]["200"]["content"]["application/json"]["schema"]
        reply = api.ask(method.upper(), path, body)
        assert reply.status == 200, (path, reply)
        validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})
        assert not [str(error) for error in validator.iter_errors(reply.json)], path
