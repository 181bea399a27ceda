"""The client's calls about later, against a running dispatcher: schedules, and tasks that may exist only once."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from warm import Cluster

from client import Client, Rejected

TASK = {"task_type": "noop", "task_data": {"n": 2**65}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    unset = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": ""}
    folder: Path = tmp_path_factory.mktemp("later")
    with Cluster(0, settings=unset, parent=folder) as cluster:
        yield cluster.client


def test_a_schedule_from_its_making_to_its_end(client: Client) -> None:
    made = client.create_schedule("life", TASK, cron="0 3 * * *", zone="Europe/Berlin", catch_up="once")
    assert client.create_schedule("life", TASK, cron="0 3 * * *", zone="Europe/Berlin", catch_up="once") == made
    assert client.schedule("life") == made
    assert made["task"] == TASK
    assert client.change_schedule("life", paused=True)["next_at"] is None
    first = client.run_schedule("life")
    assert first.created
    assert client.run_schedule("life").task_id != first.task_id
    assert client.task(first.task_id)["task_data"] == TASK["task_data"]
    client.delete_schedule("life")
    with pytest.raises(Rejected) as caught:
        client.schedule("life")
    assert caught.value.code == "not_found"


def test_another_of_its_name_and_bad_ones_are_refused(client: Client) -> None:
    client.create_schedule("taken", TASK, every="15m")
    with pytest.raises(Rejected) as caught:
        client.create_schedule("taken", TASK, every="16m")
    assert caught.value.code == "conflict"
    with pytest.raises(Rejected, match="cron: bad minute"):
        client.create_schedule("bad", TASK, cron="99 * * * *")


def test_all_schedules_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.schedules._PAGE", 2)
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        client.create_schedule(name, TASK, every="1h", paused=True)
    assert [one["name"] for one in client.schedules() if one["name"].startswith("page-")] == names


def test_it_fires_within_a_second_of_its_tick(client: Client) -> None:
    made = client.create_schedule("quick", {"task_type": "quick"}, every="1s")
    deadline = time.monotonic() + 20
    while not (found := list(client.tasks(task_type="quick"))):
        assert time.monotonic() < deadline
    client.delete_schedule("quick")
    assert 0 <= _at(found[-1]["created_at"]) - _at(made["next_at"]) < 1


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def test_unique_submits(client: Client) -> None:
    first = client.submit_unique("sleep", {"seconds": 1}, unique_key="only", priority=3)
    assert first.created
    assert client.submit_unique("sleep", {"seconds": 1}, unique_key="only") == (first.task_id, False)
    assert client.submit("sleep", {}, unique_key="only") == first.task_id
    task = {"task_type": "sleep", "unique_key": "only"}
    assert client.submit_many([task, task, {"task_type": "noop"}])[:2] == [first.task_id] * 2
    assert client.task(first.task_id)["priority"] == 3
