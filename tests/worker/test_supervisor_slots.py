"""Slots: what several of them run, children that come and go with the work, and handlers that change."""

import os
from pathlib import Path

from process_helpers import HANDLERS, Gate, bench, make, wait_for

from worker.children.handlers import probe
from worker.children.supervisor import LOOKAHEAD, Supervisor
from worker.reloading import HandlerWatch

WIDE = {"wide": 2}


def wide(gate: Gate) -> Gate:
    gate.task = make("wide", {"gate": gate.task.data["gate"]})
    return gate


def test_the_slots_of_a_type_are_found(tmp_path: Path) -> None:
    assert probe((HANDLERS,)).slots == WIDE
    (tmp_path / "none_task.py").write_text("slots = 0\ndef execute(task_id, payload): pass\n")
    assert "slots is 0; it must be a whole number from 1 to 1000" in probe((tmp_path,)).errors["none"]


def test_a_task_of_two_slots_takes_two(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=3) as b:
        b.supervisor.renew(WIDE)
        first, second = (wide(Gate(tmp_path / name)) for name in "ab")
        b.offer(first.task, second.task)
        b.sink.wait_begun(first.task)
        assert b.supervisor.wanted() == 0, "the second waits for its slots, and nothing is wanted meanwhile"
        after = make("echo")
        assert second.task.lease_id not in b.sink.begun
        first.open()
        b.sink.body(first.task)
        b.sink.wait_begun(second.task)
        assert b.supervisor.wanted() >= 1
        b.offer(after)
        b.sink.body(after)
        second.open()
        b.sink.body(second.task)
        assert b.supervisor.wait_idle(5)


def test_the_slots_of_a_long_task_have_nothing_before_them(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.supervisor.renew(WIDE)
        short, long = Gate(tmp_path / "a"), wide(Gate(tmp_path / "b"))
        b.offer(short.task)
        wait_for(lambda: any(task.seconds > 0.02 for task in b.supervisor.running()))
        short.open()
        assert b.supervisor.wait_idle(10)
        b.offer(long.task)
        b.sink.wait_begun(long.task)
        wait_for(lambda: any(task.seconds > LOOKAHEAD for task in b.supervisor.running()))
        assert b.supervisor.wanted() == 0, "nothing could run beside it"
        long.open()


def test_orders_are_asked_for_while_a_wide_task_waits_for_a_long_one(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.supervisor.renew(WIDE)
        short, long, waits = Gate(tmp_path / "a"), Gate(tmp_path / "b"), wide(Gate(tmp_path / "c"))
        b.offer(short.task)
        wait_for(lambda: any(task.seconds > 0.35 for task in b.supervisor.running()))
        short.open()
        assert b.supervisor.wait_idle(10)
        b.offer(long.task, waits.task)
        b.sink.wait_begun(long.task)
        wait_for(lambda: any(task.seconds > LOOKAHEAD for task in b.supervisor.running()))
        assert not b.supervisor.supplied(), "no outcome will bring them soon"
        long.open()
        waits.open()


def test_more_slots_than_there_are_take_all(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=2) as b:
        b.supervisor.renew({"wide": 9})
        gate = wide(Gate(tmp_path / "a"))
        b.offer(gate.task)
        b.sink.wait_begun(gate.task)
        assert b.supervisor.wanted() == 0
        gate.open()
        assert b.sink.body(gate.task)["status"] == "completed"


def test_a_wide_task_is_not_starved_by_narrow_ones(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=2) as b:
        b.supervisor.renew(WIDE)
        narrow, gate = Gate(tmp_path / "n"), wide(Gate(tmp_path / "w"))
        b.offer(narrow.task, gate.task)
        b.sink.wait_begun(narrow.task)
        behind = [make("echo") for _ in range(20)]
        b.offer(*behind)
        for task in behind:
            assert b.sink.body(task)["status"] == "released", "there are no slots for what comes behind it"
        narrow.open()
        b.sink.wait_begun(gate.task)
        gate.open()
        assert b.sink.body(gate.task)["status"] == "completed"


def test_what_there_are_no_slots_for_is_given_back(tmp_path: Path) -> None:
    """A claim counts tasks; it may bring more than there is room for."""
    with bench(tmp_path, concurrency=4) as b:
        b.supervisor.renew(WIDE)
        gates = [wide(Gate(tmp_path / str(n))) for n in range(4)]
        b.offer(*(gate.task for gate in gates))
        b.sink.wait_begun(gates[0].task, gates[1].task)
        assert [b.sink.body(gate.task)["status"] for gate in gates[2:]] == ["released"] * 2
        for gate in gates[:2]:
            gate.open()
            assert b.sink.body(gate.task)["status"] == "completed"
        assert b.supervisor.wait_idle(5)
        assert b.supervisor.wanted() >= 4


def children(supervisor: Supervisor) -> int:
    return len(supervisor._crew.children)


def test_children_come_with_the_work_and_go_without(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=4, least=1, idle_seconds=0.3) as b:
        wait_for(lambda: children(b.supervisor) == 1)
        assert b.supervisor.wanted() == 4
        gates = [Gate(tmp_path / str(n)) for n in range(3)]
        b.offer(*(gate.task for gate in gates))
        b.sink.wait_begun(*(gate.task for gate in gates))
        assert children(b.supervisor) == 3, "one for each, no more"
        for gate in gates:
            gate.open()
        wait_for(lambda: children(b.supervisor) == 1, "the others to go")
        assert b.run("echo")["status"] == "completed"


def test_as_many_children_as_there_may_be_and_no_more(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=2, least=1, idle_seconds=60) as b:
        gates = [Gate(tmp_path / str(n)) for n in range(3)]
        b.offer(*(gate.task for gate in gates))
        b.sink.wait_begun(gates[0].task, gates[1].task)
        assert children(b.supervisor) == 2
        for gate in gates:
            gate.open()
            b.sink.body(gate.task)


def test_scaling_down_against_a_claim_that_just_came(tmp_path: Path) -> None:
    """Children end at the very moment at which tasks come: every task runs, none is charged."""
    with bench(tmp_path, concurrency=3, least=1, idle_seconds=0.001) as b:
        for n in range(40):
            tasks = [make("echo", {"n": n}) for _ in range(3)]
            b.offer(*tasks)
            assert [b.sink.body(task)["status"] for task in tasks] == ["completed"] * 3


def test_renewal_waits_for_what_runs_and_replaces_the_rest(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=2) as b:
        gate, before = Gate(tmp_path / "gate"), b.run("echo")["result"]["pid"]
        b.offer(gate.task)
        b.sink.wait_begun(gate.task)
        waiting = [Gate(tmp_path / str(n)) for n in range(3)]
        b.offer(*(one.task for one in waiting))
        b.sink.wait_begun(waiting[0].task)
        b.supervisor.renew({})
        assert [b.sink.body(one.task)["status"] for one in waiting[1:]] == ["released"] * 2
        for one in (gate, waiting[0]):
            one.open()
            assert b.sink.body(one.task)["result"] == "through"
        pids = {b.run("echo")["result"]["pid"] for _ in range(6)}
        assert before not in pids


def test_renewal_against_tasks_that_come_and_end(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=2) as b:
        for n in range(30):
            tasks = [make("echo", {"n": n}) for _ in range(4)]
            b.offer(*tasks)
            b.supervisor.renew({})
            assert {b.sink.body(task)["status"] for task in tasks} <= {"completed", "released"}
        assert b.run("echo")["status"] == "completed"


def test_changes_of_files_are_told_once_they_stand_still(tmp_path: Path) -> None:
    told: list[int] = []
    path = tmp_path / "a_task.py"
    path.write_text("1")
    watch = HandlerWatch((tmp_path, tmp_path / "missing"), lambda: told.append(1))

    def look(times: int = 1) -> int:
        for _ in range(times):
            assert watch.step() >= 1
        return len(told)

    assert look(2) == 0
    path.write_text("12")
    assert look() == 0, "it may still be written"
    path.write_text("123")
    assert look() == 0
    assert look(3) == 1
    os.utime(path, (1, 1))
    assert look(2) == 2
    (tmp_path / "helper.py").write_text("")
    assert look(2) == 3
    path.unlink()
    assert look(3) == 4
