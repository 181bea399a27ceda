"""A running task that is cancelled is gone within four seconds, whatever its handler does; real processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warm import Cluster

from client.testing import LocalCluster

GONE_SECONDS = 4.0
HANDLERS = Path(__file__).resolve().parent.parent / "worker" / "handlers"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cancel")
    settings = {"TASKS_PATH": str(HANDLERS), "RESULT_MAX_BYTES": "1000000", "WORKER_QUEUES": "default"}
    with Cluster(workers=1, concurrency=2, settings=settings, parent=folder) as cluster:
        yield cluster


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cancelled(farm: LocalCluster, task_id: int) -> float:
    """Cancel it; how long its end took."""
    began = time.monotonic()
    assert farm.client.cancel([task_id]) == {task_id: "cancel_requested"}
    assert farm.client.wait(task_id, timeout=20)["status"] == "cancelled"
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["plain", "busy", "polite", "stubborn", "compiled"])
def test_whatever_the_handler_does(farm: LocalCluster, how: str) -> None:
    """`stubborn` swallows SIGTERM and every exception, `compiled` runs no Python at all: both are killed."""
    begun = farm.folder / f"begun-{how}"
    task_id = farm.client.submit("hang", {"how": how, "begun": str(begun)})
    farm.until(begun.exists, "it runs")
    took = cancelled(farm, task_id)
    assert took < GONE_SECONDS
    if how in ("plain", "busy", "polite"):
        assert took < 2.0, "who listens is gone at once, not after the grace"


def test_with_grandchildren(farm: LocalCluster) -> None:
    """What a handler started goes with it, even in a session of its own."""
    note = farm.folder / "family"
    task_id = farm.client.submit("family", {"pids": str(note), "how": "hang"})
    farm.until(note.exists, "the family runs")
    pids = [int(pid) for pid in note.read_text().split()]
    assert all(alive(pid) for pid in pids)
    began = time.monotonic()
    assert cancelled(farm, task_id) < GONE_SECONDS
    farm.until(lambda: not any(alive(pid) for pid in pids[:2]), "child and grandchild are gone", seconds=GONE_SECONDS)
    assert time.monotonic() - began < GONE_SECONDS
    for pid in pids[2:]:
        if alive(pid):
            os.kill(pid, 9)


def test_bulk_cancel_reaches_the_worker_as_well(farm: LocalCluster) -> None:
    task_ids = [farm.client.submit("hang", {}, tags=["bulk"]) for _ in range(5)]
    farm.until(lambda: farm.client.stats()["in_progress_tasks"] >= 2, "two of them run")
    began = time.monotonic()
    told = farm.client.bulk("cancel", tag="bulk")
    assert (told.matched, told.changed) == (5, 5)
    ended = list(farm.client.results(task_ids, timeout=20))
    assert time.monotonic() - began < GONE_SECONDS
    assert {task["status"] for task in ended} == {"cancelled"}


@pytest.mark.parametrize("workers_limit", ["1000000", "99000000"], ids=["at the worker", "at the dispatcher"])
def test_a_result_over_the_limit_fails_the_attempt_with_that_reason(farm: LocalCluster, workers_limit: str) -> None:
    worker = farm.start_worker("large", RESULT_MAX_BYTES=workers_limit, WORKER_QUEUES=workers_limit)
    data = {"limit": 5_000_000, "return_primes": True}
    task_id = farm.client.submit("prime", data, max_attempts=1, queue=workers_limit)
    task: dict[str, Any] = farm.client.wait(task_id, timeout=60)
    worker.stop()
    assert task["status"] == "failed"
    assert task["error"].startswith("the result is too large: 26987")
    assert "the limit is 1000000" in task["error"]
