"""Real processes together, started as users start them."""

import json
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.testing import LocalCluster


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Shared by the tests that only submit and look."""
    with LocalCluster(workers=2, concurrency=2, parent=tmp_path_factory.mktemp("farm")) as cluster:
        yield cluster


@pytest.fixture
def own_farm(tmp_path: Path) -> Iterator[LocalCluster]:
    """For a test that starts or stops processes, or counts all tasks."""
    with LocalCluster(workers=2, concurrency=2, parent=tmp_path) as cluster:
        yield cluster


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())


def _classic_worker(url: str, done: threading.Event, finished: list[int]) -> None:
    """The loop of a simple client: get a task, compute, send the result."""
    while not done.is_set():
        task = _post(f"{url}/get-task", {"worker_id": "classic", "task_types": ["noop", "old"]})
        if task.get("task_id") is None:
            done.wait(0.01)
            continue
        report = {"task_id": task["task_id"], "worker_id": "classic", "status": "completed", "answer": 42}
        assert _post(f"{url}/submit-result", report)["data"]["saved"] is True
        finished.append(task["task_id"])


def test_two_names_one_name_twice_and_a_classic_client_share_the_work(own_farm: LocalCluster) -> None:
    own_farm.workers["twin"] = own_farm.workers["worker-2"]
    own_farm.start_worker("worker-2")
    own_farm.until(lambda: own_farm.client.stats()["active_workers"] >= 3, "the twin comes up")
    done, classic = threading.Event(), []
    thread = threading.Thread(target=_classic_worker, args=(own_farm.client.url, done, classic))
    thread.start()
    try:
        ids = own_farm.client.submit_many({"task_type": "noop"} for _ in range(3000))
        ids += own_farm.client.submit_many(
            {"task_type": "old"} for _ in range(5)
        )  # the others may be quicker with noop
        ids += own_farm.client.submit_many({"task_type": "sleep", "task_data": {"seconds": 0.02}} for _ in range(40))
        ended = {task["task_id"]: task for task in own_farm.client.results(ids, timeout=60)}
    finally:
        done.set()
        thread.join()
    assert sorted(ended) == sorted(ids)
    assert {task["status"] for task in ended.values()} == {"completed"}
    assert all(task["attempts"] == 1 for task in ended.values())
    by = Counter(task["assigned_to"] for task in ended.values())
    assert by["classic"] == len(classic) >= 5
    assert by["worker-1"] > 0
    assert by["worker-2"] > 0


def test_results_of_every_size_and_kind_come_back_whole(farm: LocalCluster) -> None:
    assert farm.client.result(farm.client.submit("prime", {"limit": 100_000}))["count"] == 9592
    large = farm.client.result(farm.client.submit("prime", {"limit": 5_000_000, "return_primes": True}))
    assert len(large["primes"]) == large["count"] == 348_513


def test_a_failing_task_is_tried_again_and_says_why(farm: LocalCluster) -> None:
    task_id = farm.client.submit("prime", {"limit": 10**12}, max_attempts=1)
    task = farm.client.wait(task_id, timeout=30)
    assert task["status"] == "failed"
    assert "PRIMES_MAX_LIMIT" in task["error"]


def test_a_running_task_is_cancelled(farm: LocalCluster) -> None:
    task_id = farm.client.submit("sleep", {"seconds": 60})
    farm.until(lambda: farm.client.task(task_id)["status"] == "in_progress", "the task runs")
    assert farm.client.cancel([task_id]) == {task_id: "cancel_requested"}
    assert farm.client.wait(task_id, timeout=6)["status"] == "cancelled"


def test_an_unknown_type_waits_and_harms_nobody(farm: LocalCluster) -> None:
    waiting = farm.client.submit("nobody-serves-this")
    assert farm.client.result(farm.client.submit("noop"), timeout=30) == {}
    assert farm.client.task(waiting)["status"] == "pending"


def test_progress_is_seen_while_a_task_runs(farm: LocalCluster) -> None:
    task_id = farm.client.submit("sleep", {"seconds": 3})
    farm.until(lambda: bool(farm.client.task(task_id)["progress"]), "progress is shown")
    assert farm.client.wait(task_id, timeout=30)["status"] == "completed"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_finishes_what_it_runs_and_gives_back_the_rest(
    own_farm: LocalCluster, stop: signal.Signals
) -> None:
    leaver = own_farm.workers["worker-1"]
    ids = own_farm.client.submit_many({"task_type": "sleep", "task_data": {"seconds": 0.3}} for _ in range(12))
    own_farm.until(lambda: own_farm.client.stats()["in_progress_tasks"] >= 4, "both work")
    leaver.signal(stop)
    assert leaver.popen.wait(20) == 0
    ended = list(own_farm.client.results(ids, timeout=60))
    assert all(task["status"] == "completed" and task["attempts"] == 1 for task in ended)


def test_outcomes_wait_for_the_dispatcher_and_are_delivered(own_farm: LocalCluster) -> None:
    ids = own_farm.client.submit_many({"task_type": "sleep", "task_data": {"seconds": 1}} for _ in range(4))
    own_farm.until(lambda: own_farm.client.stats()["in_progress_tasks"] == 4, "all run")
    assert own_farm.dispatcher.stop() == 0
    own_farm.until(lambda: "kept" in own_farm.workers["worker-1"].output(), "the worker notices")
    own_farm.client.close()
    own_farm.start_dispatcher()
    ended = list(own_farm.client.results(ids, timeout=60))
    assert all(task["status"] == "completed" and task["attempts"] == 1 for task in ended)
