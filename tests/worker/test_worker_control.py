"""Whole workers as processes: orders, memory limits, logs, checkpoints, children that come and go, changed handlers."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import wait_until
from process_helpers import HANDLERS
from whole_system import System

LIMIT, PRIMES = 5_000_000, 348_513

SAYING = """
import os, time
def execute(payload, context):
    context.log("began")
    context.progress(1, 2, "half")
    context.partial({"best": 41})
    while not os.path.exists(payload["path"]):
        time.sleep(0.01)
    context.log("two lines\\nat once")
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    made.settings["TASKS_PATH"] += os.pathsep + str(HANDLERS)
    try:
        yield made
    finally:
        made.end()


def order(system: System, worker_id: str, **body: str) -> int:
    answer = system.transport.call("PATCH", f"/workers/{worker_id}", json.dumps(body).encode())
    return int(answer["instances"])


def workers(system: System) -> dict[str, dict[str, Any]]:
    listed = system.transport.call("GET", "/workers")["workers"]
    return {worker["worker_id"]: worker for worker in listed if worker["status"] == "alive"}


def log_of(system: System, task_id: int) -> list[str]:
    return list(system.transport.call("GET", f"/task/{task_id}/log")["lines"])


def test_a_quiet_worker_finishes_takes_nothing_and_is_quiet_when_it_comes_again(system: System) -> None:
    worker = system.start_worker()
    running, path = system.gate("a")
    assert order(system, "lab-1", state="quiet") == 1
    waiting = system.submit("noop", {})
    wait_until(lambda: worker.said("ordered to quiet"), what="the order does not reach it")
    path.touch()
    wait_until(system.has(running, "completed"))
    worker.kill()
    worker.ended()
    again = system.start_worker()
    wait_until(lambda: again.said("ordered to quiet"), what="it does not learn that it is to be quiet")
    assert system.task(waiting)["status"] == "pending"
    order(system, "lab-1", state="run")
    wait_until(system.has(waiting, "completed"), what="it does not go on")


def test_a_sleeping_worker_gives_back_what_it_has_not_begun_and_with_now_what_runs(system: System) -> None:
    worker = system.start_worker(WORKER_CONCURRENCY="1")
    wait_until(system.has(system.submit("noop", {}), "completed"))
    running, path = system.gate("a")
    order(system, "lab-1", state="sleep")
    wait_until(lambda: worker.said("ordered to sleep"), what="the order does not reach it")
    waiting = system.submit("noop", {})
    assert workers(system)["lab-1"]["state"] == "sleep"
    assert system.task(running)["status"] == "in_progress"
    order(system, "lab-1", state="sleep", when="now")
    wait_until(system.has(running, "pending"), what="it does not give back what runs")
    assert system.task(running)["attempts"] == 0
    assert [system.task(waiting)["status"], worker.popen.poll()] == ["pending", None]
    path.touch()
    order(system, "lab-1", state="run")
    wait_until(system.has(running, "completed"), what="it does not wake")
    wait_until(system.has(waiting, "completed"))


def test_orders_outlive_the_dispatcher(system: System) -> None:
    worker = system.start_worker()
    wait_until(system.has(system.submit("noop", {}), "completed"))
    order(system, "lab-1", state="quiet")
    system.dispatcher.kill()
    system.dispatcher.ended()
    system.start_dispatcher()
    waiting = system.submit("noop", {})
    wait_until(lambda: worker.said("the dispatcher answers again"))
    wait_until(lambda: workers(system).get("lab-1", {}).get("state") == "quiet")
    assert system.task(waiting)["status"] == "pending"


def test_a_stop_waits_for_what_runs(system: System) -> None:
    worker = system.start_worker()
    running, path = system.gate("a")
    order(system, "lab-1", state="stop")
    wait_until(lambda: worker.said("nothing more is claimed"), what="the order does not reach it")
    path.touch()
    assert worker.ended() == 0
    assert (system.task(running)["status"], system.task(running)["attempts"]) == ("completed", 1)
    system.start_worker()
    wait_until(system.has(system.submit("noop", {}), "completed"), what="the next of that name does not work")


def test_a_stop_now_gives_back_what_runs_uncounted(system: System) -> None:
    worker = system.start_worker()
    running, _ = system.gate("a")
    order(system, "lab-1", state="stop")
    wait_until(lambda: worker.said("nothing more is claimed"))
    order(system, "lab-1", state="stop", when="now")
    assert worker.ended() == 0
    state = system.task(running)
    assert (state["status"], state["attempts"]) == ("pending", 0)
    assert system.folders() == []


@pytest.mark.parametrize("how", ["signal", "order"])
def test_a_draining_worker_hears_orders_at_once(system: System, how: str) -> None:
    worker = system.start_worker(WORKER_HEARTBEAT_INTERVAL="30")
    cancelled, _ = system.gate("a")
    running, _ = system.gate("b")
    if how == "signal":
        worker.kill(signal.SIGTERM)
    else:
        order(system, "lab-1", state="stop")
    wait_until(lambda: worker.said("nothing more is claimed"), what="it does not drain")
    system.post("/cancel-tasks", {"task_ids": [cancelled]})
    wait_until(system.has(cancelled, "cancelled"), seconds=4, what="it is not stopped")
    order(system, "lab-1", state="stop", when="now")
    assert worker.ended(4) == 0
    state = system.task(running)
    assert (state["status"], state["attempts"]) == ("pending", 0)
    assert system.folders() == []


def test_a_worker_that_has_ended_is_not_thought_alive(system: System) -> None:
    worker = system.start_worker()
    wait_until(lambda: "lab-1" in workers(system))
    waiting = system.post("/submit-task", {"task_type": "noop", "requires": ["gpu"]})["task_id"]
    worker.kill(signal.SIGTERM)
    assert worker.ended() == 0
    assert workers(system) == {}
    assert system.task(waiting)["waiting_because"] == "no live worker"


def test_a_task_over_its_memory_fails_with_the_figure_and_the_worker_lives(system: System) -> None:
    worker = system.start_worker()
    running, path = system.gate("a")
    data = {"task_type": "memory", "task_data": {"mib": 400, "then": "wait"}, "memory_mb": 100, "max_attempts": 1}
    grown = system.post("/submit-task", data)["task_id"]
    wait_until(system.has(grown, "failed"), what="it is not ended")
    assert "out of memory: it used" in system.task(grown)["error"]
    assert "the limit is memory_mb = 100" in system.task(grown)["error"]
    path.touch()
    wait_until(system.has(running, "completed"))
    assert system.task(running)["attempts"] == 1
    assert worker.popen.poll() is None


def test_logs_progress_and_partial_results_are_seen_while_the_task_runs(system: System) -> None:
    (system.folder / "handlers" / "saying_task.py").write_text(SAYING)
    system.start_worker()
    path = system.folder / "go"
    task_id = system.submit("saying", {"path": str(path)})
    wait_until(lambda: log_of(system, task_id) == ["began"], what="the log is not seen")
    wait_until(lambda: system.task(task_id).get("partial") == {"best": 41}, what="the partial result is not seen")
    task = system.task(task_id)
    assert (task["status"], task["progress"], task["note"]) == ("in_progress", {"done": 1, "total": 2}, "half")
    path.touch()
    wait_until(system.has(task_id, "completed"))
    assert log_of(system, task_id) == ["began", "two lines", "at once"]


def test_a_task_whose_worker_is_killed_goes_on_within_one_checkpoint(system: System) -> None:
    """The checkpoint is looked at by a claim of our own, while nobody else may have the task."""
    system.start_worker("witness", WORKER_TASK_TYPES="noop")
    worker = system.start_worker("lab-1")
    data = {"limit": LIMIT, "method": "trial_division"}
    began, task_id = time.monotonic(), system.submit("prime", data)

    def done() -> float:
        return float((system.task(task_id)["progress"] or {"done": 0})["done"])

    wait_until(lambda: done() >= 0.6 * LIMIT, seconds=60, what="60 % are not reached")
    worker.kill()
    worker.ended()
    reached, rate = done(), done() / (time.monotonic() - began)
    mine = {"worker_id": "peek", "instance_id": "peek", "request_id": 1, "max_tasks": 1, "task_types": ["prime"]}
    answer = system.post("/get-tasks", {**mine, "wait_seconds": 10})
    (lease,) = answer["tasks"]
    assert (lease["task_id"], lease["attempt"]) == (task_id, 1), "a loss after a newer checkpoint does not count"
    slack = 2.5 * rate  # checkpoints come once a second; the rate is a mean that includes the start
    assert reached - slack <= lease["checkpoint"]["next"] <= LIMIT
    names = {"store_id": answer["store_id"], "lease_id": lease["lease_id"]}
    back = {"worker_id": "peek", "instance_id": "peek", "outcomes": [{**names, "status": "released"}]}
    assert system.post("/submit-results", back)["verdicts"][0]["verdict"] == "accepted"
    system.start_worker("lab-2")
    wait_until(system.has(task_id, "completed"), seconds=60)
    task = system.task(task_id)
    assert (task["result"]["count"], task["result"]["was_resumed"], task["attempts"]) == (PRIMES, True, 1)


def test_children_come_with_the_backlog_and_go_without(system: System) -> None:
    settings = {"WORKER_CONCURRENCY": "", "WORKER_MIN": "1", "WORKER_MAX": "3", "WORKER_IDLE_SECONDS": "0.5"}
    worker = system.start_worker(**settings)
    assert worker.said("concurrency 3")

    def children() -> int:
        return _count(worker.popen.pid)

    wait_until(lambda: children() == 1, what="it begins with one child")
    gates = [system.gate(name) for name in "abc"]
    assert children() == 3
    for _, path in gates:
        path.touch()
    for task_id, _ in gates:
        wait_until(system.has(task_id, "completed"))
    wait_until(lambda: children() == 1, what="the others do not go")
    assert workers(system)["lab-1"]["concurrency"] == 3


def _count(pid: int) -> int:
    """The children of all threads of a process."""
    return sum(len((task / "children").read_text().split()) for task in Path(f"/proc/{pid}/task").iterdir())


def test_a_changed_handler_is_used_after_the_running_task(system: System) -> None:
    handlers = system.folder / "handlers"
    gate = (handlers / "gate_task.py").read_text()
    worker = system.start_worker()
    running, path = system.gate("a")
    (handlers / "gate_task.py").write_text(gate.replace('{"seen": path}', '{"seen": "by the new one"}'))
    (handlers / "fresh_task.py").write_text("slots = 2\ndef execute(task_id, payload): return 'fresh'\n")
    wait_until(lambda: worker.said("handlers have changed"), what="the change is not noticed")
    fresh = system.submit("fresh", {})
    assert system.task(running)["status"] == "in_progress"
    path.touch()
    wait_until(system.has(running, "completed"))
    assert system.task(running)["result"] == {"seen": str(path)}, "what ran had begun with the old one"
    wait_until(system.has(fresh, "completed"), what="the new type is not asked for")
    after, path = system.gate("b")
    path.touch()
    wait_until(system.has(after, "completed"))
    assert system.task(after)["result"] == {"seen": "by the new one"}
    about = workers(system)["lab-1"]
    assert "fresh" in about["task_types"]
    assert about["slots"]["fresh"] == 2


def test_a_handler_that_was_broken_is_not_asked_for_until_it_is_mended(system: System) -> None:
    handlers = system.folder / "handlers"
    gate = (handlers / "gate_task.py").read_text()
    worker = system.start_worker()
    wait_until(system.has(system.submit("noop", {}), "completed"))
    (handlers / "gate_task.py").write_text("import nothing_of_that_name\n")
    wait_until(lambda: worker.said("handlers have changed"))
    path = system.folder / "a"
    path.touch()
    waiting = system.submit("gate", {"path": str(path)})
    wait_until(system.has(system.submit("noop", {}), "completed"), what="others go on")
    assert system.task(waiting)["status"] == "pending"
    (handlers / "gate_task.py").write_text(gate)
    wait_until(system.has(waiting, "completed"), what="it is not asked for again")
    assert system.task(waiting)["attempts"] == 1
