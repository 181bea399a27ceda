"""The memory limit of a task: who passes it is ended with the figure, and nobody else is."""

import re
from pathlib import Path

import pytest
from process_helpers import Gate, bench, make


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_task_over_its_limit_is_ended_and_others_go_on(tmp_path: Path, elsewhere: bool) -> None:
    with bench(tmp_path) as b:
        gate = Gate(tmp_path / "gate")
        b.offer(gate.task)
        b.sink.wait_begun(gate.task)
        body = b.run("memory", {"mib": 400, "then": "wait", "elsewhere": elsewhere}, memory_mb=100)
        assert body["status"] == "failed"
        told = re.match(r"out of memory: it used (\d+) MiB, the limit is memory_mb = 100", body["error"])
        assert told
        assert 100 < int(told[1]) <= 440
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"
        assert b.run("memory", {"mib": 50}, memory_mb=100)["result"] == "50 MiB", "the slot is back"


def test_a_task_within_its_limit_and_one_without_run(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        assert b.run("memory", {"mib": 250})["result"] == "250 MiB"
        assert b.run("memory", {"mib": 20}, memory_mb=64)["result"] == "20 MiB"


def test_what_asks_for_far_too_much_at_once_gets_a_memory_error(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("memory", {"mib": 1000, "at_once": True}, memory_mb=100)
        assert body["error"].startswith("out of memory (memory_mb = 100): MemoryError")
        assert b.run("memory", {"mib": 300, "at_once": True})["status"] == "completed", "the limit was the task's alone"


def test_the_workers_own_limit_is_for_tasks_that_name_none(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1, memory_mb=64) as b:
        assert "the limit is memory_mb = 64" in b.run("memory", {"mib": 150, "then": "wait"})["error"]
        assert b.run("memory", {"mib": 120}, memory_mb=250)["result"] == "120 MiB"


def test_a_cancelled_task_that_also_grew_is_cancelled(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1, kill_grace=5) as b:
        task = make("memory", {"mib": 400, "then": "wait"}, memory_mb=200)
        b.offer(task)
        b.sink.wait_begun(task)
        b.supervisor.stop([task.lease_id], "cancelled")
        assert b.sink.body(task)["status"] == "cancelled"
