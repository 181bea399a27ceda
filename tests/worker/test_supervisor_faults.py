"""I9: a handler cannot hurt its worker."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_helpers import PATIENCE, Bench, Gate, bench, family, gone, make, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("segfault", "child killed by SIGSEGV (signal 11)"),
        ("abort", "child killed by SIGABRT (signal 6)"),
        ("exit", "child exited with code 3"),
        ("kill", "child killed by SIGKILL (signal 9, perhaps out of memory)"),
        ("close", "child closed its pipe"),
        ("scribble", "child broke its pipe: not a frame"),
    ],
)
def test_i9_a_crash_is_reported_and_the_slot_is_back(how: str, error: str, tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("crash", {"how": how})
        assert body["status"] == "failed"
        assert body["error"].startswith(error)
        assert "last words" in body["error"]
        assert body["run_seconds"] >= 0
        assert b.run("echo")["status"] == "completed"


def test_i9_a_segfault_shows_where(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        assert "crash_task.py" in b.run("crash", {"how": "segfault"})["error"]


def test_i9_other_slots_are_undisturbed(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        gate = Gate(tmp_path / "gate")
        b.offer(gate.task)
        b.sink.wait_begun(gate.task)
        for _ in range(5):
            assert b.run("crash", {"how": "segfault"})["status"] == "failed"
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"


def test_i9_of_a_batch_only_the_running_task_is_charged(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.run("crash", {"how": "sys.exit"})  # now the type is known to be short
        tasks = [make("echo", {"n": n}) for n in range(300)]
        victims = [make("crash", {"how": how}) for how in ("exit", "segfault", "kill")]
        tasks[50:50], tasks[150:150], tasks[250:250] = victims[:1], victims[1:2], victims[2:]
        b.offer(make("echo"), *tasks)
        bodies = {task.lease_id: b.sink.body(task) for task in tasks}
        failed = [lease_id for lease_id, body in bodies.items() if body["status"] != "completed"]
        assert failed == [task.lease_id for task in victims]
        assert len(b.sink.begun) == len(set(b.sink.begun)) == 305


@pytest.mark.parametrize("how", ["busy", "stubborn", "compiled"])
def test_i9_a_timeout_ends_what_does_not_end(how: str, tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        b.run("echo")
        began = time.monotonic()
        body = b.run("hang", {"how": how}, timeout_seconds=0.2)
        took = time.monotonic() - began
        assert body["status"] == "failed"
        assert body["error"].startswith("timed out after 0.2 s")
        assert 0.2 <= took < 3
        assert 0.2 <= body["run_seconds"] <= took
        assert b.run("echo")["status"] == "completed"


def test_i9_a_timeout_counts_from_the_start_of_its_task(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        patient = make("echo", timeout_seconds=0.1)
        b.offer(gate.task, patient)
        wait_for(lambda: any(task.seconds > 0.2 for task in b.supervisor.running()))
        gate.open()
        assert b.sink.body(patient)["status"] == "completed"


def test_i9_a_flood_neither_blocks_nor_fills_memory(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        flood = make("flood", {"megabytes": 50, "exit": True})
        b.offer(flood)
        assert b.run("echo")["status"] == "completed"
        error = b.sink.body(flood)["error"]
        assert error.startswith("child exited with code 1")
        assert error.endswith("x\nthe end")
        assert len(error) <= 64 * 1024


def test_i9_the_output_of_an_earlier_task_is_not_blamed(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        assert b.run("flood", {"megabytes": 1})["result"] == "dry"
        assert b.supervisor.wait_idle(PATIENCE)
        b.run("echo")
        assert "xxx" not in b.run("crash", {"how": "exit"})["error"]


def take_for_short(b: Bench, task_type: str) -> None:
    """Have the supervisor believe that tasks of a type take no time, so that they go out in groups."""
    b.run("echo")
    b.supervisor._crew.pace.note(task_type, 0.0)


def test_i9_a_hanging_handler_does_not_hold_short_tasks(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        take_for_short(b, "gate")
        gate = Gate(tmp_path / "gate")
        short = [make("echo") for _ in range(200)]
        b.offer(*short[:50], gate.task, *short[50:])
        for task in short:
            assert b.sink.body(task)["status"] == "completed"
        assert gate.task.lease_id not in b.sink.outcomes
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"


def test_i9_a_line_is_taken_back_though_no_child_idles(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        take_for_short(b, "gate")
        stuck, slow = Gate(tmp_path / "stuck"), Gate(tmp_path / "slow")
        short = [make("echo") for _ in range(20)]
        b.offer(stuck.task, *short[:10], slow.task, *short[10:])
        b.sink.wait_begun(stuck.task, slow.task)
        slow.open()
        for task in short:
            assert b.sink.body(task)["status"] == "completed"
        assert stuck.task.lease_id not in b.sink.outcomes
        stuck.open()


def test_i9_what_a_crashed_child_started_ends_with_it(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.run("family", {"pids": str(tmp_path / "pids"), "how": "exit"})
        pids = family(tmp_path / "pids")
        wait_for(lambda: all(gone(pid) for pid in pids))


def test_i9_what_a_closed_child_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with bench(tmp_path) as b:
        assert b.run("family", {"pids": str(note)})["result"] == "left"
        assert not any(gone(pid) for pid in family(note))
    wait_for(lambda: all(gone(pid) for pid in family(note)))


def test_i9_a_child_that_dies_idle_is_replaced(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        pid = b.run("echo")["result"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gone(pid))
        assert b.run("echo")["result"]["pid"] != pid


def test_i9_a_spool_file_of_a_killed_child_is_removed(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        task = make("crash", {"how": "exit"})
        (b.spool / f"{task.lease_id}.bin").write_bytes(b"half a res")
        b.offer(task)
        assert b.sink.body(task)["status"] == "failed"
        assert b.stored() == []


def test_i9_a_stray_sigterm_stops_no_task(tmp_path: Path) -> None:
    """A service manager sends it to every process of a worker that is to drain."""
    with bench(tmp_path, concurrency=1) as b:
        pid = b.run("echo")["result"]["pid"]
        gate = Gate(tmp_path / "gate")
        b.offer(gate.task)
        b.sink.wait_begun(gate.task)
        os.kill(pid, signal.SIGTERM)
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"
        assert b.run("echo")["result"]["pid"] == pid


SCRIPT = """
import fcntl, json, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from process_helpers import Recorder, HANDLERS, make
from worker.children.supervisor import Supervisor, SupervisorSettings

folder = Path(sys.argv[3])
lock = open(folder / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
settings = SupervisorSettings(3, (HANDLERS,), folder / "spool", inherit_fds=(lock.fileno(),))
supervisor = Supervisor(settings, Recorder())
supervisor.start()
supervisor.offer([make("family", {"pids": str(folder / "pids"), "how": "hang"}),
                  make("hang", {"how": "busy", "begun": str(folder / "busy")}),
                  make("hang", {"how": "compiled", "begun": str(folder / "compiled")})])
signal.pause()
"""


def test_i9_kill_9_of_the_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(ROOT), str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command) as script:
        child, in_group, _ = pids = family(tmp_path / "pids")
        wait_for(lambda: (tmp_path / "busy").exists() and (tmp_path / "compiled").exists(), "both hangs")
        children = [int(pid) for pid in _children_of(script.pid)]
        assert child in children
        assert len(children) == 3
        script.kill()
    try:
        wait_for(lambda: all(gone(pid) for pid in (*children, in_group)), "the children's end")
        with open(tmp_path / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pids[2], signal.SIGKILL)  # in a session of its own: beyond the reach of a dead supervisor


def _children_of(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


@pytest.mark.parametrize("raises", [False, True])
def test_i9_a_process_that_a_handler_forked_does_not_go_on_as_a_second_child(raises: bool, tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        first = b.run("fork_return", {"raises": raises})
        assert first["status"] == "completed"
        assert b.run("fork_return")["result"] == first["result"], "its child goes on, undisturbed"
