"""Running tasks, their results, and the supervisor's own measures."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from process_helpers import HANDLERS, Bench, Gate, bench, gone, make, wait_for

from worker.children import crew
from worker.children.supervisor import LOOKAHEAD, MOST_AHEAD, Supervisor, SupervisorSettings


def test_a_task_runs_in_a_child(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        task = make("echo", {"a": [1, None, "é"]})
        b.offer(task)
        body = b.sink.body(task)
        assert body["result"]["payload"] == {"a": [1, None, "é"]}
        assert body["result"]["task_id"] == task.task_id
        assert body["result"]["pid"] != os.getpid()
        assert body["result"]["sibling"] == "found"
        assert body["run_seconds"] >= 0
        assert b.sink.begun == [task.lease_id]
        assert b.supervisor.wait_idle(5)
        assert b.supervisor.wait_idle(0)


def test_thousands_of_short_tasks_all_run_once_on_both_children(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        _both_up(b, tmp_path)
        b.run("echo")
        shares: list[list[int]] = []
        # A machine that does something else may stop a child for a whole round; one that gets no part has none in all.
        while len(shares) < 3 and not (shares and len(shares[-1]) == 2 and min(shares[-1]) > 300):
            tasks = [make("echo", {"n": n}) for n in range(3000)]
            b.offer(*tasks)
            bodies = [b.sink.body(task) for task in tasks]
            assert [body["result"]["payload"]["n"] for body in bodies] == list(range(3000))
            shares.append(list(Counter(body["result"]["pid"] for body in bodies).values()))
        assert len(shares[-1]) == 2, shares
        assert min(shares[-1]) > 300, shares


def _both_up(b: Bench, folder: Path) -> None:
    """Each of two children has run something: on a busy machine the second takes long to start."""
    gates = [Gate(folder / name) for name in ("one", "another")]
    b.offer(*(gate.task for gate in gates))
    b.sink.wait_begun(*(gate.task for gate in gates))
    for gate in gates:
        gate.open()
        b.sink.body(gate.task)


def test_a_lease_offered_twice_runs_once(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        b.offer(gate.task, gate.task)
        b.offer(gate.task)
        gate.open()
        assert b.sink.body(gate.task)["result"] == "through"
        assert b.supervisor.wait_idle(5)
        assert b.sink.begun == [gate.task.lease_id]


def test_a_large_task_reaches_its_handler_and_leaves_no_file(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        text = "x" * 900_000
        body = b.run("echo", {"text": text}, checkpoint=["y" * 100_000])
        assert "result_ref" in body
        stored = b.stored()
        assert len(stored) == 1
        assert json.loads(stored[0].read_bytes())["payload"] == {"text": text}


def test_a_task_that_cannot_be_handed_over_fails_alone(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.spool.rmdir()
        assert "cannot be handed to a child" in b.run("echo", {"text": "x" * 100_000})["error"]
        assert b.run("echo")["status"] == "completed"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("nan", "$.deep[1]: nan is not JSON"),
        ("surrogate", "$[1]: a lone surrogate"),
        ("nul", "$: a NUL character"),
        ("set", "$.deep.er: set is not JSON"),
        ("object", "$.it: object is not JSON"),
        ("deep", "nested deeper than 64"),
        ("failed", "no such city"),
    ],
)
def test_a_result_outside_the_profile_fails_with_its_path(value: str, error: str, results: "Results") -> None:
    assert results[value]["status"] == "failed"
    assert error in results[value]["error"]


def test_exact_integers_and_text_pass(results: "Results") -> None:
    assert results["huge integer"]["result"] == {"n": 2**70}
    assert results["text"]["result"] == "é✓"


Results = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    with bench(tmp_path_factory.mktemp("results"), concurrency=1) as b:
        values = ("nan", "surrogate", "nul", "set", "object", "deep", "failed", "huge integer", "text")
        return {value: b.run("result", {"value": value}) for value in values}


def test_bytes_and_large_results_lie_in_the_spool(tmp_path: Path) -> None:
    with bench(tmp_path, inline_result_bytes=1000) as b:
        for data, content, media_type in (
            ({"value": "bytes"}, b"\x00\xffraw", "application/octet-stream"),
            ({"text_of": 999}, b'"' + b"x" * 999 + b'"', "application/json"),
        ):
            task = make("result", data)
            b.offer(task)
            reference = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "media_type": media_type}
            body = b.sink.body(task)
            assert body["result_ref"] == reference
            assert "result" not in body
            assert b.sink.outcomes[task.lease_id].spool == b.spool / f"{task.lease_id}.bin"
            assert (b.spool / f"{task.lease_id}.bin").read_bytes() == content
        assert b.run("result", {"text_of": 998})["result"] == "x" * 998
        assert len(b.stored()) == 2


def test_a_lease_id_that_is_no_file_name_cannot_leave_the_spool(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        for lease_id in ("../../escaped", "..", "/etc/escaped", "a\0b", "x" * 500):
            task = make("result", {"value": "bytes"})
            task = task._replace(lease_id=lease_id)
            b.offer(task)
            assert b.sink.body(task)["status"] == "completed"
            spool = b.sink.outcomes[lease_id].spool
            assert spool is not None
            assert spool.parent == b.spool
            assert spool.exists()


def test_a_result_over_the_limit_fails_and_stores_nothing(tmp_path: Path) -> None:
    with bench(tmp_path, result_max_bytes=100_000, inline_result_bytes=1000) as b:
        assert b.run("result", {"bytes_of": 100_000})["status"] == "completed"
        body = b.run("result", {"bytes_of": 100_001})
        assert body["status"] == "failed"
        assert "too large: 100001 bytes, the limit is 100000" in body["error"]
        assert "too large" in b.run("result", {"text_of": 200_000})["error"]
        assert len(b.stored()) == 1


def test_what_a_handler_raises_is_told_with_its_traceback(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        error = b.run("raise", {"how": "plain"})["error"]
        assert error.startswith("ValueError: lone \\ud800 and \\0\nTraceback")
        assert 'raise_task.py", line' in error
        assert "worker/children/child.py" not in error
        assert b.run("raise", {"how": "memory"})["error"].startswith("MemoryError")
        assert b.run("raise", {"how": "odd"})["error"].startswith("taskmill_handlers.raise_task.Odd")
        assert b.run("raise", {"how": "recursion"})["error"].startswith("RecursionError")
        assert 60_000 < len(b.run("raise", {"how": "long"})["error"]) <= 64 * 1024
        assert b.run("crash", {"how": "sys.exit"})["error"].startswith("SystemExit: 4")


def test_an_unknown_type_and_a_missing_setup_fail_the_task_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = tmp_path / "fails"
    monkeypatch.setenv("TEST_SETUP_FAILS", str(fails))
    with bench(tmp_path, concurrency=1) as b:
        assert "no handler for task type 'nothing'" in b.run("nothing")["error"]
        assert "no handler for task type '../echo'" in b.run("../echo")["error"]
        fails.touch()
        assert b.run("setup")["error"].startswith("RuntimeError: no licence\nTraceback")
        fails.unlink()
        assert b.run("setup")["result"] == 1
        assert b.run("setup")["result"] == 1


def test_a_pydantic_payload_is_checked_and_passed_as_the_model(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        assert b.run("payload", {"limit": 7})["result"] == {"type": "Payload", "limit": 7}
        assert "limit" in b.run("payload", {"limit": "many"})["error"]


def test_context_sends_progress_and_checkpoints_and_resumes(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        task = make("context", {"updates": 500}, checkpoint={"at": "start"})
        b.offer(task)
        assert b.sink.body(task)["result"] == {"resumed_from": {"at": "start"}, "cancelled": False}
        updates = [update for lease_id, update in b.sink.updates if lease_id == task.lease_id]
        assert updates[0] == {"progress": {"done": 1, "total": 4}, "note": "first"}
        last = {"progress": {"done": 499, "total": 100}, "checkpoint": {"at": "end"}}
        assert updates[-1] == {**last, "log": {"from": 0, "lines": ["hello log"]}}
        assert len(updates) < 50


def test_a_checkpoint_is_sent_while_the_handler_goes_on(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        task = make("context", {"crash": 0.5})
        b.offer(task)
        body = b.sink.body(task)
        assert "child exited with code 9" in body["error"]
        assert "hello log" in body["error"]
        last = {"checkpoint": {"at": "end"}, "log": {"from": 0, "lines": ["hello log"]}}
        assert (task.lease_id, last) in b.sink.updates


def test_children_are_plain_quiet_and_know_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_TOKEN", "secret")
    monkeypatch.setenv("MKL_NUM_THREADS", "4")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with open(tmp_path / "lock", "w") as lock, bench(tmp_path, concurrency=1, inherit_fds=(lock.fileno(),)) as b:
        seen = b.run("environment")["result"]
    environment = seen["environment"]
    assert "DISPATCHER_TOKEN" not in environment
    assert environment["MKL_NUM_THREADS"] == "4"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert seen["stdin"] == "/dev/null"
    assert seen["descriptors"] == 3 + 4 + 1  # standard ones; texts, tickets, frames, life; the lock
    assert seen["group_leader"]
    assert seen["core"] == 0
    assert seen["oom"] == 500
    assert seen["heavy"] == []


def test_children_are_recycled_without_loss(tmp_path: Path) -> None:
    with bench(tmp_path, recycle_after=100) as b:
        b.run("echo")
        tasks = [make("echo") for _ in range(1000)]
        b.offer(*tasks)
        ran = Counter(b.sink.body(task)["result"]["pid"] for task in tasks)
        assert len(ran) >= 10
        assert max(ran.values()) == 100
        assert len(b.sink.begun) == 1001


def test_wanted_follows_the_measured_length(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        assert b.supervisor.wanted() == 2
        b.run("echo")
        assert b.supervisor.wanted() == MOST_AHEAD
        gates = [Gate(tmp_path / name) for name in ("a", "b", "c")]
        b.offer(*(gate.task for gate in gates))
        b.sink.wait_begun(gates[0].task, gates[1].task)
        wait_for(lambda: min(task.seconds for task in b.supervisor.running()) > LOOKAHEAD)
        assert b.supervisor.wanted() == 0
        seen = sorted((task.lease_id, task.task_type) for task in b.supervisor.running())
        assert seen == sorted((gate.task.lease_id, "gate") for gate in gates[:2])
        for gate in gates:
            gate.open()
        assert b.supervisor.wait_idle(10)
        assert 2 <= b.supervisor.wanted() < MOST_AHEAD


def test_a_long_task_alone_wants_no_prefetch(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        b.offer(gate.task)
        assert b.supervisor.wanted() == 0
        wait_for(lambda: any(task.seconds > LOOKAHEAD + 0.05 for task in b.supervisor.running()))
        gate.open()
        assert b.supervisor.wait_idle(10)
        assert b.supervisor.wanted() == 1


def test_children_are_supplied_while_tasks_of_a_measured_length_wait(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        gates = [Gate(tmp_path / str(n)) for n in range(10)]
        assert not b.supervisor.supplied(), "nothing is known yet"
        b.offer(*(gate.task for gate in gates[:2]))
        b.sink.wait_begun(gates[0].task, gates[1].task)
        assert not b.supervisor.supplied(), "what runs now may run for hours, and orders must be heard"
        wait_for(lambda: min(task.seconds for task in b.supervisor.running()) > 0.12)
        gates[0].open()
        gates[1].open()
        assert b.supervisor.wait_idle(10)
        assert not b.supervisor.supplied(), "they are idle"
        b.offer(*(gate.task for gate in gates[2:]))
        b.sink.wait_begun(gates[2].task, gates[3].task)
        assert b.supervisor.supplied()
        wait_for(lambda: min(task.seconds for task in b.supervisor.running()) > LOOKAHEAD)
        assert not b.supervisor.supplied(), "these take longer"
        for gate in gates[2:]:
            gate.open()


def test_without_children_that_run_anything_orders_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more processes")

    with bench(tmp_path, recycle_after=1) as b:
        gates = [Gate(tmp_path / str(n)) for n in range(2)]
        b.offer(*(gate.task for gate in gates))
        wait_for(lambda: [task for task in b.supervisor.running() if task.seconds > 0.2][1:])
        monkeypatch.setattr(crew, "ChildProcess", fail)
        for gate in gates:
            gate.open()
        assert b.supervisor.wait_idle(10)
        wait_for(lambda: b.supervisor.wanted() == 0, "the end of the last child")
        assert not b.supervisor.supplied()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with bench(tmp_path) as b:
        pids = {b.run("echo")["result"]["pid"] for _ in range(4)}
    assert all(gone(pid) for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == before
    b.supervisor.close()
    b.supervisor.release_waiting()  # late calls do nothing
    assert b.stored() == []


def test_close_gives_back_what_is_left(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        tasks = [make("hang", {"how": how}) for how in ("stubborn", "plain", "busy", "plain")]
        b.offer(*tasks)
        b.sink.wait_begun(*tasks[:2])
    assert [b.sink.outcomes[task.lease_id].status for task in tasks] == ["released"] * 4


def test_children_that_cannot_start_are_tried_less_and_less_and_tasks_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.children.process.BOOT", "raise SystemExit('no interpreter today')")
    with bench(tmp_path, concurrency=1) as b:
        task = make("echo")
        b.offer(task)
        assert b.sink.body(task)["status"] == "released"
        assert b.supervisor.wanted() == 0
        assert "no interpreter today" in caplog.text
        monkeypatch.undo()
        assert b.run("echo")["status"] == "completed"
        assert 3 <= caplog.text.count("a child ended before its first task") <= 6


def test_a_sink_that_raises_is_not_taken_for_health(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def started(self, lease_ids: list[str]) -> None:
            raise OSError("disk full")

        finished = progressed = started

    supervisor = Supervisor(SupervisorSettings(1, (HANDLERS,), tmp_path / "spool"), Broken())  # type: ignore[arg-type]
    supervisor.start()
    supervisor.offer([make("echo")])
    with pytest.raises(RuntimeError, match="thread has failed"):
        supervisor.wait_idle(10)
    with pytest.raises(RuntimeError, match="thread has failed"):
        supervisor.wanted()
    supervisor.close()
    assert "disk full" in caplog.text
