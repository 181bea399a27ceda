"""Whatever a worker or a submitter says, every page is still served, and soon."""

import html
import json
import re
from typing import Any

import pytest
from http_helpers import Api

from dispatcher.dashboard import one

HTML = {"Accept": "text/html"}
MACHINES: list[dict[str, Any]] = [
    {"memory_mb": "x" * 16, "memory_free_mb": "y" * 16},  # times 1048576: many megabytes
    {"memory_mb": [1], "memory_free_mb": [2]}, {"memory_mb": 1}, {"memory_mb": 10**400, "memory_free_mb": 1},
    {"finished_per_minute": "<b>"}, {"finished_per_minute": {}}, {"outbox": "x"}, {"outbox": 1, "quarantined": [1]},
    {"load": {"a": "<b>"}, "cpus": "many"}, {"hostname": ["<i>"]}, {"hostname": "h" * 100_000}, {"outbox": True},
]  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    {"$defs": [], "properties": {"a": {"$ref": "#/$defs/x"}}},
    {"properties": {"a": {"anyOf": 5}}}, {"properties": {"a": {"anyOf": None}}},
    {"properties": {"a": {}}, "required": [[1], 2, {}]}, {"properties": {"a": {"type": ["null", ["x"]]}, "b": 5}},
    {"properties": {"a": {"minimum": True, "maximum": "x", "enum": [None], "title": ["<b>"]}}}, {"properties": [1]},
]  # fmt: skip


def page(api: Api, path: str) -> str:
    reply = api.ask("GET", path, headers=HTML)
    assert reply.status == 200, reply
    assert len(reply.body) < 100_000
    return reply.body.decode()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: str(machine)[:30])
def test_what_a_worker_says_of_its_machine_may_be_anything(api: Api, machine: dict[str, Any]) -> None:
    api.beat(1, host=machine)
    assert "w-1" in page(api, "/ui/workers")
    assert "w-1" in page(api, "/")
    assert "<b>" not in page(api, "/ui/workers")


def test_an_honest_machine_is_shown(api: Api) -> None:
    api.beat(
        1, host={"hostname": "lab", "load": 0.5, "cpus": 2, "memory_mb": 2048, "memory_free_mb": 1024, "outbox": 3}
    )
    text = page(api, "/ui/workers")
    for shown in ("lab", "0.5 on 2 CPUs", "1.0 GiB free of 2.0 GiB", '<dd class="warn">3</dd>'):
        assert shown in text


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_what_a_worker_publishes_as_a_schema_may_be_anything(api: Api, schema: dict[str, Any]) -> None:
    api.beat(1, register={"task_types": {"odd": schema}})
    assert "odd" in page(api, "/ui/submit?type=odd")


def test_a_search_for_nul_is_refused(api: Api) -> None:
    """PostgreSQL holds no such text, and would call it a fault of its own."""
    for word in ("tag:%00", "worker:%00", "data.x:%00", "%00"):
        assert api.get(f"/ui/tasks/ids?q={word}").fault == "q: must not contain NUL"
        assert b"must not contain NUL" in api.get(f"/ui/tasks?q={word}").body


def test_a_button_sends_the_json_that_it_means(api: Api) -> None:
    api.queue.blame.types = lambda worker_id: ["noop"]  # type: ignore[method-assign, assignment, return-value]
    api.beat(1)
    (text,) = re.findall(r'data-url="/forgive" data-body="([^"]*)"', page(api, "/ui/workers"))
    assert json.loads(html.unescape(text)) == {"worker_id": "w-1"}


def test_deep_data_is_not_indented_to_a_hundred_times_its_size(api: Api) -> None:
    deep = "[" * 60 + ",".join(["0"] * 2 * one.CHARS) + "]" * 60
    assert len(one.pretty(deep)) < one.CHARS + 100
    assert "\n" not in one.pretty(deep)[: one.CHARS]
    api.submit(task_data={"a": json.loads(deep)})
    page(api, "/ui/task/1")


def test_running_tasks_are_listed_without_their_data(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = api.lease(task_data={"large": "x" * 10_000})
    monkeypatch.delattr("dispatcher.store.browse.Browse.listed")
    assert f"/ui/task/{lease['task_id']}" in page(api, "/ui/workers")
