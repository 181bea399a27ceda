"""Wrong requests: a 4xx that names field and reason, never a 500, and nothing stored.

First a corpus of what is known to break parsers and stores; then each field of each model with values of wrong types;
then requests that Hypothesis derives from valid ones. All of it on one application, whose claims do not wait.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from http_helpers import Api, Reply
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dispatcher.routes import models, worker_models

MIB = 2**20
TEN_YEARS = 10 * 365 * 86400
LEASE = "1-0000000000000001"
STORE = "0123456789abcdef"
CLAIM = {
    "request_id": 1,
    "max_tasks": 1,
    "protocol": 1,
    "task_types": ["noop"],
    "queues": ["default"],
    "labels": ["gpu"],
    "wait_seconds": 0.0,
    "orders": {"state": "run", "cancel": [LEASE]},
}
NAMES = {"worker_id": "w-1", "instance_id": "i-1"}
TASK = {
    "task_type": "noop",
    "task_data": {"a": [1, {"b": "c"}]},
    "queue": "default",
    "priority": 1,
    "delay_seconds": 1.5,
    "max_attempts": 3,
    "timeout_seconds": 60,
    "tags": ["red"],
    "requires": ["gpu"],
    "key": "user:42",
}
OUTCOME = {
    "store_id": STORE,
    "lease_id": LEASE,
    "task_id": 1,
    "status": "completed",
    "result": {"a": [1]},
    "error": "text",
    "run_seconds": 0.5,
    "snooze_seconds": 1,
}
VALID: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/submit-task": (models.SubmitTask, TASK),
    "/submit-tasks": (models.SubmitTasks, {"tasks": [TASK, {"task_type": "noop"}]}),
    "/get-task": (worker_models.ClassicClaim, {"worker_id": "w-1", "task_types": ["noop"]}),
    "/get-tasks": (worker_models.Claim, {**NAMES, **CLAIM}),
    "/submit-result": (
        worker_models.ClassicReport,
        {"task_id": 1, "worker_id": "w-1", "status": "completed", "lease_id": LEASE, "error": "x", "primes": [2]},
    ),
    "/submit-results": (worker_models.Report, {**NAMES, "outcomes": [OUTCOME, OUTCOME], "claim": CLAIM}),
    "/report-death": (
        worker_models.Death,
        {
            "store_id": STORE,
            **NAMES,
            "dead_worker_id": "w-2",
            "dead_instance_id": "i-2",
            "outbox_leases": [LEASE],
            "started_leases": [LEASE],
        },
    ),
    "/heartbeat": (
        worker_models.Heartbeat,
        {
            **NAMES,
            "seq": 1,
            "store_id": STORE,
            "leases": [{"lease_id": LEASE, "progress": {"done": 1, "total": 2.5}, "note": "n", "checkpoint": {"a": 1}}],
            "claims_in_flight": [1],
            "host": {"hostname": "lab"},
            "register": {"task_types": {"noop": {"type": "object"}, "prime": None}, "concurrency": 2},
        },
    ),
    "/wait-tasks": (models.WaitTasks, {"task_ids": [1, 2], "wait_seconds": 0}),
    "/cancel-tasks": (models.TaskIds, {"task_ids": [1, 2]}),
}
CLASSIC_BEAT = {"worker_id": "w-1", "status": "alive", "metadata": {"a": 1}}
STRICT = ("/submit-task", "/submit-tasks", "/wait-tasks", "/cancel-tasks")
TOLERANT = ("/get-task", "/get-tasks", "/submit-results", "/report-death", "/heartbeat")


class Failures(logging.Handler):
    """What the dispatcher logged as its own failures."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One application for all: after each wrong request it must serve the next one."""
    folder: Path = tmp_path_factory.mktemp("bad")
    api, failures = Api(folder, result_max_bytes=2 * MIB), Failures()
    logging.getLogger("taskmill").addHandler(failures)
    api.submit()
    api.queue.drain()  # nothing waits
    yield api
    logging.getLogger("taskmill").removeHandler(failures)
    assert [record.getMessage() for record in failures.records] == []
    assert len(api.queue.waiting) == 0
    api.close()


def refused(api: Api, method: str, path: str, body: Any = None, status: int = 400, **options: Any) -> str:
    """The message; nothing may have been written."""
    before = api.version()
    reply = api.ask(method, path, body, **options)
    assert reply.status == status, reply
    assert api.version() == before
    return reply.fault


def never_fails(api: Api, before: int, reply: Reply, head: bool = False) -> None:
    """Whatever was asked, the answer is ours; and what was refused was not stored."""
    assert reply.status < 500, reply
    if reply.status >= 400:
        assert api.version() == before, reply
        assert head or reply.fault


# -- the corpus: bodies --

TEXT = json.dumps(TASK)
BODIES = {
    "nothing": (b"", "JSON body"),
    "blank": (b"  \n", "not valid JSON"),
    "text": (b"task1", "not valid JSON"),
    "form": (b"task_type=noop&task_data=%7B%7D", "not valid JSON"),
    "cut off": (TEXT[:-1].encode(), "not valid JSON"),
    "two": (f"{TEXT}{TEXT}".encode(), "not valid JSON"),
    "single quotes": (b"{'task_type': 'noop'}", "not valid JSON"),
    "comment": (b'{"task_type": "noop"} // x', "not valid JSON"),
    "trailing comma": (b'{"task_type": "noop",}', "not valid JSON"),
    "array": (f"[{TEXT}]".encode(), "JSON object"),
    "string": (b'"task_type"', "JSON object"),
    "number": (b"1", "JSON object"),
    "null": (b"null", "JSON object"),
    "UTF-16": (TEXT.encode("utf-16"), "UTF-8"),
    "UTF-16 without mark": (TEXT.encode("utf-16-le"), "JSON"),
    "UTF-32": (TEXT.encode("utf-32"), "UTF-8"),
    "Latin-1": ('{"task_type": "noop", "task_data": {"a": "é"}}'.encode("latin-1"), "UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), "JSON"),
    "overlong UTF-8": (b'{"task_type": "no\xc0\xafop"}', "UTF-8"),
    "raw surrogate": (b'{"task_type": "noop", "task_data": {"a": "\xed\xa0\x80"}}', "UTF-8"),
    "NaN": (b'{"task_type": "noop", "task_data": {"a": NaN}}', "NaN"),
    "Infinity": (b'{"task_type": "noop", "priority": Infinity}', "Infinity"),
    "-Infinity": (b'{"task_type": "noop", "task_data": [-Infinity]}', "-Infinity"),
    "1e999": (b'{"task_type": "noop", "task_data": {"a": 1e999}}', "out of range"),
    "-1e999": (b'{"task_type": "noop", "delay_seconds": -1e999}', "out of range"),
    "5,000 digits": (b'{"task_type": "noop", "task_data": {"a": ' + b"1" * 5000 + b"}}", "digits"),
    "100,000 digits": (b'{"task_type": "noop", "priority": ' + b"1" * 100_000 + b"}", "digits"),
    "twice the same key": (b'{"task_type": "noop", "task_type": "prime"}', "duplicate key 'task_type'"),
    "twice within": (b'{"task_type": "noop", "task_data": {"a": {"b": 1, "b": 1}}}', "duplicate key 'b'"),
    "twice, escaped": (b'{"task_type": "noop", "task_data": {"a": 1, "\\u0061": 2}}', "duplicate key 'a'"),
    "lone surrogate": (b'{"task_type": "noop", "task_data": {"a": "\\ud800"}}', "surrogate"),
    "surrogates in the wrong order": (b'{"task_type": "noop", "task_data": {"a": "\\udc00\\ud800"}}', "surrogate"),
    "lone surrogate in a key": (b'{"task_type": "noop", "task_data": {"\\udfff": 1}}', "surrogate"),
    "NUL": (b'{"task_type": "noop", "task_data": {"a": "\\u0000"}}', "NUL"),
    "NUL after backslashes": (b'{"task_type": "noop", "task_data": {"a": "\\\\\\u0000"}}', "NUL"),
    "NUL in a key": (b'{"\\u0000": 1}', "NUL"),
    "NUL in a name": (b'{"task_type": "no\\u0000op"}', "NUL"),
    "raw NUL": (b'{"task_type": "noop\x00"}', "not valid JSON"),
    "raw control character": (b'{"task_type": "noop\n"}', "not valid JSON"),
    "100,000 brackets": (b"[" * 100_000, "nested"),
    "100,000 nested": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
    "65 deep": (b'{"task_type": "noop", "task_data": {"a":' + b"[" * 64 + b"1" + b"]" * 64 + b"}}", "nested"),
    "200 deep": (b'{"task_type": "noop", "task_data": {"a":' + b"[" * 200 + b"1" + b"]" * 200 + b"}}", "nested"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_json_of_ours(api: Api, name: str) -> None:
    body, reason = BODIES[name]
    assert reason in refused(api, "POST", "/submit-task", body)


@pytest.mark.parametrize("path", VALID)
def test_every_endpoint_reads_with_the_same_care(api: Api, path: str) -> None:
    for name, (body, _) in BODIES.items():
        if b"task_type" not in body and name != "form":
            assert refused(api, "POST", path, body), name


def test_what_the_profile_allows_is_taken(api: Api) -> None:
    deep = b"[" * 63 + b"1" + b"]" * 63
    for data in (b'{"a":' + deep + b"}", b'{"a": ' + b"1" * 4300 + b"}", b'{"a": "\\\\u0000 \\ud83d\\ude00"}', b"{}"):
        assert api.post("/submit-task", b'{"task_type": "noop", "task_data": ' + data + b"}").status == 201


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_not_unpacked(api: Api, coding: str) -> None:
    message = refused(api, "POST", "/submit-task", b"\x1f\x8b\x08\x00bomb", headers={"Content-Encoding": coding})
    assert message.startswith("body: ")


def test_a_body_over_the_limit(api: Api) -> None:
    limit = 16 * MIB
    declared = {"CONTENT_LENGTH": str(limit + 1), "wsgi.input": Unreadable()}
    message = refused(api, "POST", "/submit-tasks", status=413, environ_overrides=declared)
    assert message == f"request body: {limit + 1} bytes, the limit is {limit} bytes"
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    message = refused(api, "POST", "/submit-tasks", b" " * (limit + 1), 413, environ_overrides=chunked)
    assert f"limit is {limit} bytes" in message
    padded = b'{"task_type": "noop"}'.ljust(limit)
    assert api.post("/submit-task", padded).status == 201


class Unreadable:
    """A body that nobody may touch."""

    def read(self, _size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def test_task_data_over_the_limit(api: Api) -> None:
    overhead = len(b'{"a":""}')
    for letter in ("x", "é", "😀"):
        width = len(letter.encode())
        fits = letter * ((MIB - overhead) // width)
        assert api.post("/submit-task", {"task_type": "noop", "task_data": {"a": fits}}).status == 201
        body = {"task_type": "noop", "task_data": {"a": fits + letter}}
        size = len((fits + letter).encode()) + overhead
        assert refused(api, "POST", "/submit-task", body, 413) == f"task_data: {size} bytes, the limit is {MIB} bytes"
        many = {"tasks": [{"task_type": "noop"}, body]}
        assert refused(api, "POST", "/submit-tasks", many, 413).startswith("tasks[1].task_data: ")


# -- the corpus: fields --

BAD_NAMES = ["", " ", "a b", "a/b", "../a", "a\n", "é", "a;b", "'", "a" * 129, "\x7f", "a\u200b", "%61", "a\\u0000"]
BAD_MOMENTS = [
    "", "now", "2026-11-22", "2026-11-22T09:00:00", "2026-02-30T09:00:00Z", "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-11-22T09:00:00+25:00", "2026-11-22T09:00:00ZZ",
    "2026-11-22T24:01:00Z", 1795338000, 1e300, {"at": 1}, True,
]  # fmt: skip
FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *(("/submit-task", {"task_type": name}, "task_type") for name in BAD_NAMES),
    *(("/submit-task", {"queue": name}, "queue") for name in BAD_NAMES),
    *(("/submit-task", {"tags": ["ok", name]}, "tags[1]") for name in BAD_NAMES),
    *(("/get-task", {"worker_id": name}, "worker_id") for name in BAD_NAMES),
    *(("/get-tasks", {"worker_id": name}, "worker_id") for name in BAD_NAMES),
    ("/submit-task", {"tags": ["t"] * 33}, "tags"),
    ("/submit-task", {"priority": 2**31}, "priority"),
    ("/submit-task", {"priority": -(2**31) - 1}, "priority"),
    ("/submit-task", {"priority": 2**70}, "priority"),
    ("/submit-task", {"priority": 1.0}, "priority"),
    ("/submit-task", {"priority": True}, "priority"),
    ("/submit-task", {"max_attempts": 0}, "max_attempts"),
    ("/submit-task", {"max_attempts": 1001}, "max_attempts"),
    ("/submit-task", {"max_attempts": 2**70}, "max_attempts"),
    ("/submit-task", {"delay_seconds": -0.001}, "delay_seconds"),
    ("/submit-task", {"delay_seconds": TEN_YEARS + 1}, "delay_seconds"),
    ("/submit-task", {"delay_seconds": 10**400}, "delay_seconds"),
    ("/submit-task", {"delay_seconds": "5s"}, "delay_seconds"),
    ("/submit-task", {"timeout_seconds": 0}, "timeout_seconds"),
    ("/submit-task", {"timeout_seconds": TEN_YEARS + 1}, "timeout_seconds"),
    ("/submit-task", {"idempotency_key": ""}, "idempotency_key"),
    ("/submit-task", {"idempotency_key": "k" * 129}, "idempotency_key"),
    ("/submit-task", {"run_at": "2026-11-22T09:00:00Z"}, "delay_seconds"),  # not both
    *(("/submit-task", {"delay_seconds": None, "run_at": moment}, "run_at") for moment in BAD_MOMENTS),
    ("/submit-tasks", {"tasks": []}, "tasks"),
    ("/submit-tasks", {"idempotency_key": ""}, "idempotency_key"),
    ("/submit-tasks", {"idempotency_key": "k" * 129}, "idempotency_key"),
    ("/submit-tasks", {"idempotency_key": 1}, "idempotency_key"),
    ("/submit-tasks", {"tasks": [{"task_type": "noop"}] * 10_001}, "tasks"),
    ("/submit-tasks", {"tasks": [{"task_type": "noop"}, {"task_type": "noop", "odd": 1}]}, "tasks[1].odd"),
    ("/submit-tasks", {"tasks": [{"task_type": "noop"}, {}]}, "tasks[1].task_type"),
    ("/submit-tasks", {"tasks": [None]}, "tasks[0]"),
    ("/get-tasks", {"request_id": 0}, "request_id"),
    ("/get-tasks", {"request_id": 2**53 + 1}, "request_id"),
    ("/get-tasks", {"request_id": 2**70}, "request_id"),
    ("/get-tasks", {"max_tasks": -1}, "max_tasks"),
    ("/get-tasks", {"max_tasks": 1001}, "max_tasks"),
    ("/get-tasks", {"max_tasks": 2**70}, "max_tasks"),
    ("/get-tasks", {"wait_seconds": 50.001}, "wait_seconds"),
    ("/get-tasks", {"wait_seconds": -1}, "wait_seconds"),
    ("/get-tasks", {"protocol": 0}, "protocol"),
    ("/get-tasks", {"protocol": 2**70}, "protocol"),
    ("/get-tasks", {"task_types": ["n"] * 10_001}, "task_types"),
    ("/get-tasks", {"labels": ["n"] * 1001}, "labels"),
    ("/get-tasks", {"orders": {"state": "s" * 17}}, "orders.state"),
    ("/get-tasks", {"orders": {"cancel": ["l" * 65]}}, "orders.cancel[0]"),
    ("/get-tasks", {"instance_id": ""}, "instance_id"),
    ("/get-tasks", {"instance_id": "i" * 129}, "instance_id"),
    ("/submit-result", {"task_id": 0}, "task_id"),
    ("/submit-result", {"task_id": -1}, "task_id"),
    ("/submit-result", {"task_id": 2**63}, "task_id"),
    ("/submit-result", {"task_id": 2**64}, "task_id"),
    ("/submit-result", {"task_id": 1.0}, "task_id"),
    ("/submit-result", {"task_id": "1"}, "task_id"),
    ("/submit-result", {"lease_id": "l" * 65}, "lease_id"),
    ("/submit-result", {"lease_id": "1-000000000000000G"}, "lease_id"),
    ("/submit-result", {"lease_id": "1-ffffffffffffffff"}, "lease_id"),
    ("/submit-result", {"lease_id": f"{10**19}-0000000000000001"}, "lease_id"),
    ("/submit-result", {"error": "e" * (MIB + 1)}, "error"),
    ("/submit-results", {"outcomes": [OUTCOME] * 1001}, "outcomes"),
    ("/submit-results", {"outcomes": {}}, "outcomes"),
    ("/submit-results", {"claim": {**CLAIM, "request_id": 2**70}}, "claim.request_id"),
    ("/heartbeat", {"seq": 0}, "seq"),
    ("/heartbeat", {"seq": 2**70}, "seq"),
    ("/heartbeat", {"claims_in_flight": [2**70]}, "claims_in_flight[0]"),
    ("/heartbeat", {"claims_in_flight": [1] * 1001}, "claims_in_flight"),
    ("/heartbeat", {"leases": [{}]}, "leases[0].lease_id"),
    ("/heartbeat", {"leases": [{"lease_id": LEASE, "note": "n" * 4097}]}, "leases[0].note"),
    ("/heartbeat", {"leases": [{"lease_id": LEASE, "progress": {"done": 10**400}}]}, "leases[0].progress.done"),
    ("/heartbeat", {"leases": [{"lease_id": LEASE, "progress": {"total": 1}}]}, "leases[0].progress.done"),
    ("/heartbeat", {"register": {"task_types": {"a b": None}}}, "register.task_types.a b"),
    ("/heartbeat", {"register": {"task_types": {"a": True}}}, "register.task_types.a"),
    ("/heartbeat", {"store_id": "s" * 65}, "store_id"),
    ("/heartbeat", {"instance_id": None}, "instance_id"),
    ("/report-death", {"dead_instance_id": ""}, "dead_instance_id"),
    ("/report-death", {"started_leases": ["l" * 65]}, "started_leases[0]"),
    ("/wait-tasks", {"task_ids": []}, "task_ids"),
    ("/wait-tasks", {"task_ids": [1] * 1001}, "task_ids"),
    ("/wait-tasks", {"wait_seconds": 26}, "wait_seconds"),
    *(("/cancel-tasks", {"task_ids": [1, odd]}, "task_ids[1]") for odd in (0, -1, 2**53 + 1, 2**63, 2**64, "1", 1.5)),
]


@pytest.mark.parametrize(("path", "change", "field"), FIELDS, ids=lambda value: str(value)[:60])
def test_fields_with_wrong_values(api: Api, path: str, change: dict[str, Any], field: str) -> None:
    message = refused(api, "POST", path, VALID[path][1] | change)
    assert message.startswith(f"{field}"), message
    assert len(message) <= 2100


def depth(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/heartbeat", VALID["/heartbeat"][1] | {"host": {"a": depth(64)}}, "host: "),
        ("/heartbeat", VALID["/heartbeat"][1] | {"leases": [{"lease_id": LEASE, "checkpoint": depth(65)}]}, "leases"),
        ("/heartbeat", VALID["/heartbeat"][1] | {"register": {"task_types": {"a": {"b": depth(64)}}}}, "register.task"),
        ("/heartbeat", CLASSIC_BEAT | {"metadata": {"a": depth(64)}}, "metadata: "),
        ("/submit-result", VALID["/submit-result"][1] | {"primes": depth(64)}, "result: "),
        ("/submit-tasks", {"tasks": [{"task_type": "noop", "task_data": {"a": depth(64)}}]}, "tasks[0].task_data: "),
    ],
    ids=str,
)
def test_values_that_are_nested_too_deep(api: Api, path: str, body: Any, field: str) -> None:
    message = refused(api, "POST", path, body)
    assert message.startswith(field)
    assert message.endswith("nested deeper than 64 levels")


JSON_TYPES: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 7,
    "number": 7.5,
    "string": "text",
    "array": [7],
    "object": {"text": 7},
}


def accepted_types(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The JSON types that a field's schema allows."""
    if "$ref" in schema:
        return accepted_types(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return set().union(*(accepted_types(part, definitions) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return {"string"}
    kind = schema.get("type")
    return set(JSON_TYPES) if kind is None else {kind, "integer"} if kind == "number" else {kind}


@pytest.mark.parametrize("path", VALID)
def test_each_field_refuses_the_types_that_it_is_not_of(api: Api, path: str) -> None:
    model, valid = VALID[path]
    schema = model.model_json_schema()
    tried = 0
    for name, field in schema["properties"].items():
        for kind in JSON_TYPES.keys() - accepted_types(field, schema.get("$defs", {})):
            message = refused(api, "POST", path, {**valid, name: JSON_TYPES[kind]})
            assert message.startswith(name), message
            tried += 1
    for name in schema["required"]:
        if (path, name) != ("/heartbeat", "instance_id"):  # without it, it is a classic one
            body = {key: value for key, value in valid.items() if key != name}
            assert refused(api, "POST", path, body) == f"{name}: is required"
    assert tried >= 5


def test_a_classic_heartbeat_refuses_wrong_types(api: Api) -> None:
    for name, wrong in (("worker_id", 1), ("status", None), ("status", 1), ("metadata", [1]), ("metadata", "x")):
        assert refused(api, "POST", "/heartbeat", CLASSIC_BEAT | {name: wrong}).startswith(f"{name}: ")


@pytest.mark.parametrize("path", STRICT)
def test_an_unknown_field_is_refused_by_name(api: Api, path: str) -> None:
    assert refused(api, "POST", path, VALID[path][1] | {"odd": 1}) == "odd: unknown field"
    long = refused(api, "POST", path, VALID[path][1] | {"o" * 100_000: 1})
    assert long.endswith("unknown field")
    assert len(long) < 2100


@pytest.mark.parametrize("path", TOLERANT)
def test_an_unknown_field_is_no_fault_where_versions_differ(api: Api, path: str) -> None:
    assert api.post(path, VALID[path][1] | {"odd": {"a": [1]}}).status == 200


@pytest.mark.parametrize("field", ["depends_on"])
def test_a_field_of_a_later_version_says_so(api: Api, field: str) -> None:
    before = api.version()
    reply = api.post("/submit-task", {"task_type": "noop", field: "x"})
    assert (reply.status, reply.json["code"]) == (400, "unsupported")
    assert reply.fault.startswith(f"{field}: ")
    assert api.version() == before


def test_each_limit_itself_is_allowed(api: Api) -> None:
    whole = {
        "task_type": "t" * 128,
        "queue": "q" * 128,
        "priority": 2**31 - 1,
        "tags": [f"{n}" * 64 for n in range(10)] + ["t"] * 22,
        "max_attempts": 1000,
        "timeout_seconds": TEN_YEARS,
        "idempotency_key": "é" * 128,
        "delay_seconds": TEN_YEARS,
    }
    task_id = api.post("/submit-task", whole).data["task_id"]
    assert api.task(task_id)["priority"] == 2**31 - 1
    later = {"task_type": "noop", "run_at": "9998-12-31T23:59:59-23:59", "priority": -(2**31)}
    task_id = api.post("/submit-task", later).data["task_id"]
    assert api.task(task_id)["run_at"] == "9999-01-01T23:58:59.000Z"
    earlier = {"task_type": "earlier", "run_at": "1970-01-01T00:00:00+14:00"}
    task_id = api.post("/submit-task", earlier).data["task_id"]
    claim = {**NAMES, "instance_id": "i" * 128, "request_id": 2**53, "max_tasks": 1000, "task_types": ["earlier"]}
    (lease,) = api.post("/get-tasks", claim | {"wait_seconds": 50, "labels": ["l"] * 1000}).data["tasks"]
    assert lease["task_id"] == task_id
    assert api.get("/stats").status == 200
    said = {"lease_id": lease["lease_id"], "note": "n" * 4096, "progress": {"done": 1e308, "total": 2**70}}
    beat = {**NAMES, "instance_id": "i" * 128, "seq": 2**53, "leases": [said], "claims_in_flight": [2**53] * 1000}
    assert api.post("/heartbeat", beat).data["leases"] == {lease["lease_id"]: "ok"}
    snooze = api.outcome(lease["lease_id"], "snoozed", snooze_seconds=TEN_YEARS, run_seconds=TEN_YEARS)
    assert api.verdicts(snooze, *[{}] * 999, instance="i" * 128)[0] == "accepted"
    assert api.task(task_id)["status"] == "pending"


# -- queries and paths --

QUERIES = [
    *(f"/tasks?limit={odd}" for odd in ("0", "-1", "501", "1.5", "ten", "", "9" * 30, "%EF%BC%91", "1_0", "+1", "0x1")),
    *(f"/tasks?cursor={odd}" for odd in ("0", "-1", str(2**53 + 1), str(2**64), "x", "")),
    *(f"/tasks?status={odd}" for odd in ("", "done", "PENDING", "pending%00", "pending'--")),
    *(f"/tasks?{name}={odd}" for name in ("queue", "task_type", "tag") for odd in ("", "a%20b", "'", "%00", "a" * 129)),
    *(f"/tasks?ids={odd}" for odd in ("", ",", "1,", "x", "-1", "1;2", "1' OR 1=1", "9" * 20, ",".join(["1"] * 501))),
    *(f"/task/1?wait={odd}" for odd in ("26", "-1", "nan", "inf", "x", "1e999")),
    *(f"{path}?odd=1" for path in ("/task/1", "/task/1/result", "/tasks", "/stats", "/health")),
    "/stats?a%00b=1",
    "/tasks?%FF=1",
    "/tasks?a%0d%0ab=1",
]  # fmt: skip


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path[:40])
def test_queries_with_wrong_values(api: Api, path: str) -> None:
    message = refused(api, "GET", path)
    assert ": " in message
    name = path.partition("?")[2].partition("=")[0]
    assert "%" in name or message.startswith(name)


SQL = ["' OR '1'='1", "1; DROP TABLE tasks", '" OR ""="', "1 UNION SELECT 1", "%27--", "\\'; --", "1) OR (1=1"]


@pytest.mark.parametrize("text", SQL)
def test_sql_is_text(api: Api, text: str) -> None:
    task_id = api.submit(task_data={"a": text}, idempotency_key=text)
    assert api.task(task_id)["task_data"] == {"a": text}
    for name in ("status", "queue", "task_type", "tag", "ids", "limit", "cursor"):
        refused(api, "GET", "/tasks", query_string={name: text})
    assert api.post("/get-tasks", {**NAMES, **CLAIM, "instance_id": text, "max_tasks": 0}).status == 200
    assert api.beat(1, text, instance=text)["leases"] == {text: "lost"}


@pytest.mark.parametrize(
    "path",
    ["/task/0", "/task/-1", f"/task/{2**63}", f"/task/{2**64}", "/task/text", "/task/1.5", "/task/",
     f"/task/{'1' * 5000}", "/task/1/", "/task//1", "//task/1", "/task/%31%00", "/task/0x1", "/task/1/result/",
     "/task/0/result", f"/task/{2**70}/result", "/task/%2e%2e/stats", "/nothing", "/Stats", "/stats/",
     "/static/x", "/%00", "/%FF", f"/{'a' * 8000}", "/openapi.json/..", "/console"],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_paths_that_lead_nowhere(api: Api, path: str) -> None:
    assert "no such path" in (message := refused(api, "GET", path, status=404)) or "not found" in message


@pytest.mark.parametrize("lease", ["", "x", "1-%00", "%FF", "1-0000000000000001/..", "é", "a" * 9000, "-", "1-"])
def test_leases_that_never_were(api: Api, lease: str) -> None:
    assert refused(api, "PUT", f"/result/{lease}?store_id={api.store.store_id}", b"x", status=404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "odd", "GET"])
def test_methods_that_are_not_served(api: Api, method: str) -> None:
    reply = api.ask(method, "/submit-task", TASK)
    assert (reply.status, reply.json["code"]) == (405, "method_not_allowed")
    assert set(reply.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


# -- generated --

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 3, 1001, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), 10**400, 0.5, -0.5,
    1e308, 5e-324, 25.5, "", "a", "é", "😀", "a b", "a" * 128, "a" * 129, "x" * 5000, "\x7f", "'", "\u2028",
    "completed", "failed", "run", LEASE, "1-", "-1", "1970-01-01T00:00:00Z", [], {}, [[]], [None], {"": 0}, [1] * 40,
    ["a"] * 33,    depth(62), depth(65), {"$ref": "#"}, {"type": 7},
]  # fmt: skip
EXAMPLES = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, valid: dict[str, Any]) -> Any:
    """A valid body with one to three changes: odd values, missing, unknown and repeated entries."""
    body = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(body))))
        if not path:
            body[draw(st.text(max_size=8))] = draw(ANY_JSON)
            continue
        holder = body
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["odd", "odd", "any", "gone", "again"]))
        if change == "gone":
            del holder[path[-1]]
        elif change == "again" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        else:
            holder[path[-1]] = draw(ANY_JSON) if change == "any" else copy.deepcopy(draw(st.sampled_from(ODD)))
    return body


@st.composite
def garbled(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """The bytes of a valid body with something cut out, put in or encoded otherwise."""
    text = json.dumps(valid, ensure_ascii=draw(st.booleans()))
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"])))
    at = draw(st.integers(0, len(data)))
    tokens = [b"NaN", b"1e999", b"[[[[", b'"', b"\\u0000", b"\\ud800", b"\x00", b"\xff", b",", b"{}", b"-", b"1" * 5000]
    inserted = draw(st.sampled_from(tokens) | st.binary(max_size=8))
    return data[:at] + inserted + data[at + draw(st.integers(0, 5)) :]


@pytest.mark.parametrize("path", [*VALID, "/heartbeat "])
def test_generated_bodies(api: Api, path: str) -> None:
    valid = CLASSIC_BEAT if path.endswith(" ") else VALID[path][1]
    path = path.strip()
    seen: set[int] = set()
    api.submit_many(1000)
    leases = cycle([task["lease_id"] for task in api.claim(f"holder{path}", max_tasks=1000)["tasks"]])

    @EXAMPLES
    @given(mutated(valid) | garbled(valid) | ANY_JSON)
    def one(body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = data.replace(LEASE.encode(), next(leases).encode()).replace(STORE.encode(), api.store.store_id.encode())
        before = api.version()
        reply = api.post(path, data)
        never_fails(api, before, reply)
        seen.add(reply.status)

    before = api.rows()
    one()
    assert 400 in seen
    after = api.rows()
    assert after["task_data"] == after["tasks"]
    assert path.startswith("/submit-task") or after["tasks"] == before["tasks"]
    assert api.post("/submit-task", {"task_type": "noop"}).status == 201


@pytest.mark.parametrize("lists", ["registered", "served"])
def test_generated_schemas_and_data(api: Api, lists: str) -> None:
    """A schema that a worker publishes, sound or not, stops neither its heartbeat nor a submit."""
    words = st.sampled_from(["type", "properties", "items", "$ref", "anyOf", "pattern", "maximum", "$defs", "$id"])
    values = st.sampled_from(["object", "integer", "#", "#/$defs/a", "http://127.0.0.1:1/x", "(a+)+$", "(", 1, -1, {}])
    schema = st.recursive(values, lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=3))
    seq = iter(range(1, 10**6))

    @settings(EXAMPLES, max_examples=EXAMPLES.max_examples // 2)
    @given(st.dictionaries(words, schema, max_size=4), ANY_JSON)
    def one(schema: dict[str, Any], data: Any) -> None:
        beat = {**NAMES, "instance_id": lists, "seq": next(seq), "register": {"task_types": {"odd": schema}}}
        if lists == "registered":
            assert api.post("/heartbeat", beat).status == 200
        else:
            api.queue.schemas.learn({"odd": json.dumps(schema)})
        before = api.version()
        never_fails(api, before, api.post("/submit-task", {"task_type": "odd", "task_data": {"a": data}}))

    one()
    api.queue.schemas.learn({"odd": None})


PIECES = ["/", "task", "tasks", "1", "0", "-1", str(2**63), str(2**64), "result", "stats", "health", "openapi.json",
          "%00", "%2F", "%FF", "..", "é", "", "get-task", LEASE, "a" * 300, "?", "="]  # fmt: skip
ARGUMENTS = [
    "limit",
    "cursor",
    "status",
    "queue",
    "task_type",
    "tag",
    "ids",
    "wait",
    "ready",
    "store_id",
    "odd",
    "",
    "\0",
]
VALUES = st.sampled_from(["", "1", "0", "-1", "1,2", "pending", "nan", "1e9", "25", "a b", "\0", "é", "9" * 400])
METHODS = ["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "ODD"]
ROUTES = [*VALID, "/task/1", "/task/1/result", "/tasks", "/stats", "/health", "/openapi.json", f"/result/{LEASE}"]
FORM = "application/x-www-form-urlencoded"
KINDS = ["application/json", "text/plain", "", "multipart/form-data; boundary=x", FORM, "é", "a;b=c;"]


def test_generated_requests(api: Api) -> None:
    """Paths, queries, methods and content types."""
    joined = st.lists(st.sampled_from(PIECES), max_size=5).map(lambda parts: "/" + "/".join(parts))

    @settings(EXAMPLES, max_examples=EXAMPLES.max_examples * 5 // 2)
    @given(
        st.sampled_from(METHODS),
        st.sampled_from(ROUTES) | joined,
        st.dictionaries(st.sampled_from(ARGUMENTS), VALUES | st.text(max_size=12), max_size=3),
        st.sampled_from(KINDS),
        st.sampled_from([None, b"", b"{}", b"[]", b"--x\r\n", b"a=b", b"\xff"]),
    )
    def one(method: str, path: str, query: dict[str, str], kind: str, body: bytes | None) -> None:
        path, _, more = path.partition("?")
        assume(method != "DELETE" or not path.startswith("/task/"))  # which deletes an ended task, as it should
        before = api.version()
        reply = api.ask(method, path, body, query_string=query or more, content_type=kind)
        never_fails(api, before, reply, head=method == "HEAD")
        assert reply.status < 300 or reply.status >= 400, reply

    before = api.rows()
    one()
    assert api.rows() == before


HEADERS = ["Host", "Origin", "Authorization", "Content-Type", "Content-Length", "Content-Encoding", "Accept", "Range",
           "X-Forwarded-Host", "X-Forwarded-For", "X-HTTP-Method-Override", "Cookie", "If-None-Match"]  # fmt: skip
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
TELLING = [
    "http://[",
    "http://[::1",
    "null",
    "127.0.0.1:99999999",
    "[",
    "[]:1",
    "a b",
    "::",
    "-1",
    "1e9",
    "\u0661",
    "Bearer",
]


def test_generated_headers(api: Api) -> None:
    @EXAMPLES
    @given(
        st.dictionaries(st.sampled_from(HEADERS), HEADER_TEXT | st.sampled_from(TELLING), max_size=4),
        st.sampled_from(["GET /stats", "GET /health", "POST /cancel-tasks", "GET /task/1/result"]),
    )
    def one(headers: dict[str, str], request: str) -> None:
        method, path = request.split()
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if f"HTTP_{name}" in environ:
                environ[name] = environ.pop(f"HTTP_{name}")
        before = api.version()
        reply = api.ask(method, path, b"{}" if method == "POST" else None, environ_overrides=environ)
        never_fails(api, before, reply)

    one()


@pytest.mark.parametrize("make", ["classic", "native"])
def test_refused_reports_leave_their_lease_alone(make_api: Callable[..., Api], make: str) -> None:
    api = make_api()
    lease = api.lease()
    if make == "classic":
        reply = api.post("/submit-result", {"task_id": 1, "worker_id": "w-1", "status": "failed", "error": 7})
    else:
        reply = api.post("/submit-results", {**NAMES, "outcomes": [api.outcome(lease["lease_id"])], "claim": 7})
    assert reply.status == 400
    assert api.task(1)["status"] == "in_progress"
