"""Stopping tasks: cancelled, lost, released."""

import signal
import time
from pathlib import Path

import pytest
from patience import slowness
from process_helpers import Gate, bench, family, gone, make, wait_for


@pytest.mark.parametrize("how", ["plain", "busy", "stubborn", "compiled", "polite"])
def test_a_running_task_is_cancelled(how: str, tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        task = make("hang", {"how": how, "begun": str(tmp_path / "begun")})
        b.offer(task)
        wait_for((tmp_path / "begun").exists)
        b.supervisor.stop([task.lease_id], "cancelled")
        assert b.sink.body(task) == {
            "store_id": task.store_id,
            "task_id": task.task_id,
            "lease_id": task.lease_id,
            "status": "cancelled",
        }
        assert b.run("echo")["status"] == "completed"


def test_a_handler_is_interrupted_long_before_it_is_killed(tmp_path: Path) -> None:
    with bench(tmp_path, kill_grace=60.0) as b:
        for how in ("plain", "busy", "polite"):
            task = make("hang", {"how": how, "begun": str(tmp_path / how)})
            b.offer(task)
            wait_for((tmp_path / how).exists)
            began = time.monotonic()
            b.supervisor.stop([task.lease_id], "cancelled")
            assert b.sink.body(task)["status"] == "cancelled"
            assert time.monotonic() - began < 5 * slowness()
        assert (task.lease_id, {"checkpoint": "cleaned up"}) in b.sink.updates


def test_a_lost_task_has_no_outcome(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        running, waiting = make("hang", {"begun": str(tmp_path / "begun")}), make("echo")
        b.offer(running, waiting)
        wait_for((tmp_path / "begun").exists)
        b.supervisor.stop([waiting.lease_id, running.lease_id, "unheard of"], "lost")
        assert b.supervisor.wait_idle(10)
        assert b.sink.outcomes == {}
        assert b.sink.begun == [running.lease_id]


def test_waiting_tasks_are_cancelled_at_once_and_alone(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        b.run("echo")
        b.supervisor._crew.pace.note("gate", 0.0)  # so that the others stand in the child's line
        tasks = [make("echo") for _ in range(10)]
        b.offer(gate.task, *tasks)
        b.sink.wait_begun(gate.task)
        b.supervisor.stop([task.lease_id for task in tasks[::2]], "cancelled")
        for task in tasks[::2]:
            assert b.sink.body(task)["status"] == "cancelled"
        gate.open()
        for task in tasks[1::2]:
            assert b.sink.body(task)["status"] == "completed"
        assert b.sink.order[-5:] == [task.lease_id for task in tasks[1::2]]


def test_an_outcome_made_before_the_order_stands(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        for _ in range(50):
            task = make("echo")
            b.offer(task)
            b.supervisor.stop([task.lease_id], "lost")
            assert b.supervisor.wait_idle(10)
            if task.lease_id in b.sink.outcomes:
                assert b.sink.outcomes[task.lease_id].status == "completed"


def test_stops_in_the_middle_of_short_tasks_hit_nobody_else(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.run("echo")
        tasks = [make("echo") for _ in range(2000)]
        b.offer(*tasks)
        for task in tasks[::200]:
            b.supervisor.stop([task.lease_id], "cancelled")
        statuses = {task.lease_id: b.sink.body(task)["status"] for task in tasks}
        stopped = {task.lease_id for task in tasks[::200]}
        assert {lease_id for lease_id, status in statuses.items() if status != "completed"} <= stopped


def test_a_stop_ends_what_the_task_started(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        task = make("family", {"pids": str(tmp_path / "pids"), "how": "hang"})
        b.offer(task)
        pids = family(tmp_path / "pids")
        b.supervisor.stop([task.lease_id], "cancelled")
        assert b.sink.body(task)["status"] == "cancelled"
        wait_for(lambda: all(gone(pid) for pid in pids))


def test_release_waiting_takes_back_even_what_stands_in_a_childs_line(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        b.run("echo")
        b.supervisor._crew.pace.note("gate", 0.0)
        tasks = [make("echo") for _ in range(400)]
        b.offer(gate.task, *tasks)
        b.sink.wait_begun(gate.task)
        b.supervisor.release_waiting()
        for task in tasks:
            assert b.sink.body(task)["status"] == "released"
        assert not b.supervisor.wait_idle(0.0)
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"
        assert b.supervisor.wait_idle(10)
        assert len(b.sink.begun) == 2


def test_release_running_kills_now_and_releases(tmp_path: Path) -> None:
    with bench(tmp_path, kill_grace=60.0) as b:
        tasks = [make("hang", {"how": "stubborn", "begun": str(tmp_path / name)}) for name in ("a", "b")]
        waiting = make("echo")
        b.offer(*tasks, waiting)
        wait_for(lambda: all((tmp_path / name).exists() for name in ("a", "b")))
        b.supervisor.release_running()
        for task in tasks:
            assert b.sink.body(task)["status"] == "released"
        assert b.sink.body(waiting)["status"] == "completed"  # that was not running


def test_the_child_of_a_stopped_task_is_replaced(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        pid = b.run("echo")["result"]["pid"]
        task = make("hang", {"begun": str(tmp_path / "begun")})
        b.offer(task)
        wait_for((tmp_path / "begun").exists)
        b.supervisor.stop([task.lease_id], "lost")
        assert b.run("echo")["result"]["pid"] != pid
        wait_for(lambda: gone(pid))


def test_a_polite_handler_that_times_out_is_failed(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("hang", {"how": "polite"}, timeout_seconds=0.1)
        assert body["error"].startswith("timed out after 0.1 s")


def test_a_handlers_own_processes_can_be_terminated(tmp_path: Path) -> None:
    """Our signal handlers must not live on in what a handler forks."""
    with bench(tmp_path, concurrency=1) as b:
        assert b.run("fork")["result"] == -signal.SIGTERM
