"""Workers killed, frozen and drained: what they ran runs elsewhere, once, and soon (I3 to I6, I9)."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest
from farm_faults import drain, end_all, end_worker
from fault_farm import DEATH, LEASE, Farm, children_of
from overlapping import overlapping
from processes import gone, of_folder, wait

RUNS_AGAIN_WITHIN = 3.0  # where another worker is on the host
RUNS_ELSEWHERE_WITHIN = 12.0  # where none is


def _outcomes(farm: Farm, task_id: int) -> list[str]:
    """How the leases of a task ended that did not complete it."""
    return [one["outcome"] for one in farm.client.task(task_id)["attempts_log"]]


def _wait_runs(farm: Farm, number: int, count: int, seconds: float) -> None:
    farm.until(lambda: farm.runs()[number] >= count, f"number {number} is begun {count} times", seconds)


@overlapping
def test_when_a_supervisor_is_killed_its_tasks_run_again_within_3_s(folder: Path) -> str:
    with Farm(folder, workers=2, concurrency=4, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        ids = dict(enumerate(farm.submit_ledger(range(4), seconds=2)))
        running = farm.wait_executing(4)
        dead = farm.holder(ids[0])
        name = next(name for name, worker in farm.workers.items() if worker is dead)
        hurt = [one.number for one in running if one.worker_pid == dead.pid]
        orphaned, began = end_worker(farm, name), time.monotonic()
        for number in hurt:
            _wait_runs(farm, number, 2, RUNS_AGAIN_WITHIN)
        again = time.monotonic() - began
        assert not [one for one in of_folder(farm.folder) if f"worker {name}" in one[1]]
        ended = farm.results(ids.values(), 10)
        assert all(task["status"] == "completed" for task in ended.values())
        for number, task_id in ids.items():
            assert _outcomes(farm, task_id) == (["died"] if number in hurt else [])
        return (
            f"a supervisor killed: its children gone after {orphaned:.2f} s, its tasks begun again after {again:.2f} s"
        )


@overlapping
def test_what_a_task_of_a_killed_supervisor_had_started_is_ended(folder: Path) -> None:
    """Its child is ended by the kernel; a program in a session of its own, by the neighbour that finds it dead."""
    with Farm(folder, workers=2, concurrency=1, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        task_id = farm.client.submit("poison", {"how": "daemon"}, max_attempts=1)
        farm.until(lambda: bool(_daemons(farm)), "the daemon runs")
        farm.until(lambda: _noted_starts(farm) == 1, "the worker has noted that its task runs")
        end_worker(farm, farm.client.task(task_id)["assigned_to"])
        farm.until(lambda: not _daemons(farm), "the daemon ends", RUNS_AGAIN_WITHIN)
        task = farm.results([task_id], 10)[task_id]
        assert (task["status"], task["error"]) == ("failed", "the worker process died")


def _daemons(farm: Farm) -> list[tuple[int, str]]:
    return [one for one in of_folder(farm.folder) if one[1] == "sleep 1000"]


@overlapping
def test_when_all_of_a_worker_is_killed_its_successor_runs_its_tasks(folder: Path) -> None:
    with Farm(folder, workers=1, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        ids = farm.submit_ledger(range(2), seconds=1)
        ids += farm.submit_ledger(range(2, 6), seconds=0)
        farm.wait_executing(2)
        farm.until(lambda: _noted_starts(farm) >= 2, "the worker has noted that they run")
        end_all(farm, "worker-1")
        farm.start_worker("worker-1")
        farm.until(lambda: farm.is_up("worker-1"), "the successor is up")
        for number in range(2):
            _wait_runs(farm, number, 2, RUNS_AGAIN_WITHIN)
        ended = farm.results(ids, 10)
        assert [task["attempts"] for _, task in sorted(ended.items())] == [2, 2, 1, 1, 1, 1]


def _noted_starts(farm: Farm) -> int:
    return sum(note.read_text().count("\n") for note in farm.folder.glob("cache/*/*/started"))


@overlapping
def test_a_killed_child_costs_its_task_one_attempt_and_nobody_else(folder: Path) -> None:
    with Farm(folder, workers=1) as farm:
        ids = farm.submit_ledger(range(2), seconds=1)
        victim = farm.wait_executing(2)[0]
        os.kill(victim.pid, signal.SIGKILL)
        ended = farm.results(ids, 15)
        assert all(task["status"] == "completed" for task in ended.values())
        hurt, other = ended[victim.task_id], ended[next(i for i in ids if i != victim.task_id)]
        assert (hurt["attempts"], other["attempts"]) == (2, 1)
        assert "SIGKILL" in farm.client.task(victim.task_id)["attempts_log"][0]["error"]


@overlapping
def test_the_task_that_would_go_to_a_killed_idle_worker_runs_on_its_neighbour(folder: Path) -> str:
    return _kill_idle(folder, RUNS_AGAIN_WITHIN)


@pytest.mark.long
@overlapping
def test_the_task_that_would_go_to_a_killed_idle_worker_runs_on_another_host(folder: Path) -> str:
    """Another host: no lock tells of the death."""
    return _kill_idle(folder, RUNS_ELSEWHERE_WITHIN, CACHE_DIR=str(folder / "elsewhere"))


def _kill_idle(folder: Path, within: float, **settings: str) -> str:
    with Farm(folder, workers=1, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        farm.until(lambda: _waiting_claims(farm) == 1, "the first waits for work")
        farm.start_worker("worker-2", **settings)
        farm.until(lambda: _waiting_claims(farm) == 2, "the second, too")
        end_worker(farm, "worker-1")  # it has waited longest: the next task is its
        began = time.monotonic()
        ids = farm.submit_ledger([0], seconds=0)
        task = farm.results(ids, within)[ids[0]]
        assert (task["status"], task["assigned_to"], task["attempts"]) == ("completed", "worker-2", 1)
        return f"an idle worker killed: the next task is done elsewhere after {time.monotonic() - began:.2f} s"


def _waiting_claims(farm: Farm) -> int:
    return int(farm.client.health()["waiting_claims"])


@overlapping
def test_a_worker_frozen_past_its_leases_is_taken_for_dead_and_one_result_counts(folder: Path) -> None:
    with Farm(folder, workers=2, concurrency=1) as farm:
        ids = farm.submit_ledger(range(2), seconds=1)
        farm.wait_executing(2)
        frozen = farm.holder(ids[0])
        frozen.signal(signal.SIGSTOP)
        _wait_runs(farm, 0, 2, LEASE + DEATH + 3)
        first = farm.results(ids, 10)[ids[0]]
        frozen.signal(signal.SIGCONT)
        farm.until(farm.outboxes_empty, "its outcome has a verdict")
        second = farm.client.task(ids[0])
        assert first["result"] == second["result"]
        assert (second["status"], second["attempts"], farm.runs()[0]) == ("completed", 2, 2)
        assert second["assigned_to"] != next(name for name, worker in farm.workers.items() if worker is frozen)


@overlapping
def test_the_late_success_of_a_worker_frozen_past_its_leases_counts(folder: Path) -> None:
    with Farm(folder, workers=1, concurrency=2) as farm:
        ids = farm.submit_ledger(range(2), seconds=1)
        farm.wait_executing(2)
        farm.workers["worker-1"].signal(signal.SIGSTOP)
        farm.until(lambda: not farm.in_progress(), "its leases expire", LEASE + DEATH + 3)
        farm.workers["worker-1"].signal(signal.SIGCONT)
        ended = farm.results(ids, 5)
        assert {task["status"] for task in ended.values()} == {"completed"}
        assert set(farm.runs().values()) == {1}  # it may have been offered its own task anew, and have given it back


@overlapping
def test_a_drained_worker_finishes_what_runs_and_gives_back_the_rest(folder: Path) -> None:
    _drain_often(folder, 4)


@pytest.mark.long
@overlapping
def test_fifty_drains_give_back_every_lease(folder: Path) -> None:
    _drain_often(folder, 50)


def _drain_often(folder: Path, times: int) -> None:
    with Farm(folder, workers=1, concurrency=2, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        ids = farm.submit_ledger(range(times * 40), seconds=0.02)
        for _ in range(times):
            before = len(farm.executions())
            farm.until(lambda before=before: len(farm.executions()) > before + 2, "it works")
            drain(farm, "worker-1", 1)
            assert farm.in_progress() == 0
            assert not farm.instance_folders()
            farm.start_worker("worker-1")
        ended = farm.results(ids, 90)
        assert {(task["status"], task["attempts"]) for task in ended.values()} == {("completed", 1)}
        assert set(farm.runs().values()) == {1}
        assert {outcome for task_id in ids for outcome in _outcomes(farm, task_id)} <= {"released"}


@overlapping
def test_a_signal_that_reaches_another_thread_is_heard_too(folder: Path) -> None:
    """The kernel chooses the thread; after SIGSTOP it is often not the main one, which runs Python's handlers."""
    with Farm(folder, workers=1, concurrency=1) as farm:
        farm.until(lambda: farm.is_up("worker-1"), "it is up")
        worker = farm.workers["worker-1"]
        other = max(int(thread.name) for thread in Path(f"/proc/{worker.pid}/task").iterdir())
        assert other != worker.pid
        assert ctypes.CDLL(None).tgkill(worker.pid, other, int(signal.SIGTERM)) == 0
        assert worker.popen.wait(5) == 0


@overlapping
def test_a_second_signal_hands_back_what_runs(folder: Path) -> None:
    with Farm(folder, workers=1, concurrency=2) as farm:
        ids = farm.submit_ledger(range(2), seconds=60)
        farm.wait_executing(2)
        children = children_of(farm.workers["worker-1"])
        began = time.monotonic()
        drain(farm, "worker-1", 2, between=0.3)
        assert time.monotonic() - began < 3
        assert all(map(gone, children))
        for task_id in ids:
            task = farm.client.task(task_id)
            assert (task["status"], task["attempts"], _outcomes(farm, task_id)) == ("pending", 0, ["released"])


@overlapping
def test_of_a_batch_only_the_task_that_crashed_is_charged(folder: Path) -> None:
    crash = {"task_type": "poison", "task_data": {"how": "segfault"}, "max_attempts": 1}
    batch = [{"task_type": "ledger", "task_data": {"number": n, "seconds": 0}, "max_attempts": 1} for n in range(50)]
    batch[16] = crash
    with Farm(folder, workers=1, concurrency=1) as farm:
        farm.results(farm.submit_ledger(range(1000, 1100), seconds=0))  # so that the worker knows how short they are
        harmless = {"task_type": "poison", "task_data": {"how": "huge integer"}}
        farm.results(farm.client.submit_many([harmless] * 9))
        ids = farm.client.submit_many(batch)
        ended = farm.results(ids)
        assert [i for i in ids if ended[i]["status"] != "completed"] == [ids[16]]
        assert "SIGSEGV" in ended[ids[16]]["error"]
        assert {farm.runs()[n] for n in range(50) if n != 16} == {1}


@overlapping
def test_nothing_is_left_when_all_is_over(folder: Path) -> None:
    farm = Farm(folder, workers=2)
    with farm:
        farm.results(farm.submit_ledger(range(100), seconds=0))
        farm.stop_workers()
        assert farm.dispatcher.stop() == 0
        farm.nothing_left()
    wait(lambda: not of_folder(farm.folder), "all processes end", 1.0)
    assert not farm.folder.exists()
