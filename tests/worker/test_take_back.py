"""A child and its supervisor draw from the same line at the same time: each task is one's or the other's."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_helpers import Bench, Gate, bench, make, wait_for

from worker.children import sharing
from worker.children.ledger import Held, Ledger
from worker.children.line import Line
from worker.children.pace import Pace
from worker.children.process import ChildProcess
from worker.children.work import WorkLine
from worker.model import Task


@contextmanager
def child(tmp_path: Path, tasks: int, taken: list[int]) -> Iterator[tuple[ChildProcess, list[Held], WorkLine]]:
    """A child with so many tasks in its line, of which it has taken these."""
    made = ChildProcess.__new__(ChildProcess)
    made.line, made.allowance, made._line = deque(), tasks, Line()
    held = Ledger(tmp_path).enter(make("echo") for _ in range(tasks))
    assert made.send(held) == tasks
    line = WorkLine(*made._line.childs)
    for place in taken:
        assert line.ticket() == held[place].number
        assert line.work(held[place].number).task_id == held[place].task.task_id
    yield made, held, line
    made._line.close()


def test_what_comes_back_from_several_children_stands_where_it_stood(tmp_path: Path) -> None:
    held = Ledger(tmp_path).enter(make("echo") for _ in range(6))
    waiting = sharing.Sharing(Pace(), 2)
    waiting.add(held[4:])
    waiting.put_back([held[0], held[2]])
    waiting.put_back([held[1], held[3]])
    assert waiting.remove_all() == held


def test_what_comes_back_is_what_the_child_has_not_taken(tmp_path: Path) -> None:
    with child(tmp_path, 5, [0, 1]) as (one, held, _):
        assert one.take_back() == held[2:]
        assert list(one.line) == held[:2], "these will be announced, in this order"
        assert one.allowance == 3


def test_what_came_back_is_given_again_in_any_order(tmp_path: Path) -> None:
    """The child still has the texts of the group that it began."""
    with child(tmp_path, 4, [0]) as (one, _, line):
        back = one.take_back()
        assert one.send([back[2], back[0]]) == 2
        fresh = Ledger(tmp_path).enter([make("echo")])
        assert one.send(fresh) == 1
        numbers = [line.ticket() or 0 for _ in range(3)]
        ids = [line.work(number).task_id for number in numbers]
        assert ids == [held.task.task_id for held in (back[2], back[0], *fresh)]
        assert line.ticket() is None


def test_an_empty_line_gives_nothing_back(tmp_path: Path) -> None:
    with child(tmp_path, 2, [0, 1]) as (one, held, _):
        assert one.take_back() == []
        assert list(one.line) == held


def test_children_who_relieve_each_other_all_the_time_run_each_task_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with bench(tmp_path, concurrency=2) as b:
        for _ in range(1000):
            tasks = [make("count", {"ledger": str(ledger)}) for _ in range(9)]
            b.offer(*tasks)
            b.sink.wait(lambda tasks=tasks: all(task.lease_id in b.sink.outcomes for task in tasks))
    counted = ledger.read_text().split()
    assert len(counted) == len(set(counted)) == 1000 * 9


def behind(b: Bench, gate: Gate, expected: float, *tasks: Task) -> ChildProcess:
    """The only child; it has the gate to run, which is expected to take so long, and the tasks are offered after it."""
    b.run("echo")
    b.supervisor._crew.pace.note("gate", expected)
    b.offer(gate.task, *tasks)
    [child] = b.supervisor._crew.children
    return child


def test_behind_a_task_of_a_moment_stands_one_more_until_it_has_twice_its_time(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        gate, after = Gate(tmp_path / "gate"), [make("echo"), make("echo")]
        child = behind(b, gate, 0.3, *after)
        wait_for(lambda: [held.task for held in child.line] == after[:1], "one behind it")
        wait_for(lambda: not child.line, "nothing behind it")
        gate.open()
        assert [b.sink.body(task)["status"] for task in after] == ["completed", "completed"]


def test_a_type_that_turns_out_long_keeps_no_line_for_long(tmp_path: Path) -> None:
    """Its mean, two times over, would be the patience with a task that nobody took for a long one."""
    with bench(tmp_path, concurrency=1) as b:
        gate = Gate(tmp_path / "gate")
        child = behind(b, gate, 0.001, make("echo"))
        wait_for(lambda: child.line, "one behind it")
        b.supervisor._crew.pace.note("gate", 1000.0)
        wait_for(lambda: b.offer() or not child.line, "nothing behind it")
        gate.open()


def test_what_was_taken_back_does_not_fill_the_line_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that waits reads the texts before it: else there might be no room for any, and no ticket would come."""
    put, full = Line.put, []

    def noting(line: Line, texts: Sequence[str], numbers: Sequence[int]) -> int:
        count = put(line, texts, numbers)
        full.extend([] if count else [True])
        return count

    monkeypatch.setattr(Line, "put", noting)
    monkeypatch.setattr(sharing, "GROUP_SECONDS", 60.0)
    with bench(tmp_path, concurrency=1) as b:
        b.run("echo")
        gate = Gate(tmp_path / "gate")
        b.supervisor._crew.pace.note("gate", 0.001)
        b.offer(gate.task, *(make("echo", {"text": "x" * 60_000}) for _ in range(60)))
        wait_for(lambda: b.offer() or full, "a full line")
        b.supervisor.release_waiting()
        gate.open()
        assert b.run("echo")["status"] == "completed"


def test_texts_read_ahead_are_kept_for_their_tickets(tmp_path: Path) -> None:
    with child(tmp_path, 2, []) as (one, held, line):
        line.wait()  # reads the first packet, though its tickets are there
        more = Ledger(tmp_path).enter(make("echo")._replace(lease_id=f"more-{n}") for n in range(2))
        for place, fresh in enumerate(more):
            fresh.number = 10 + place
            fresh.text = fresh.text.replace(f"[{1 + place},", f"[{10 + place},", 1)
        assert one.send(more) == 2
        line.wait()
        for expected in (*held, *more):
            assert line.work(line.ticket() or 0).lease_id == expected.task.lease_id
        assert line.ticket() is None


def test_tasks_that_wait_too_long_may_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of short tasks makes a worker take many; should they be long ones, it would keep them from all others."""
    monkeypatch.setattr(sharing, "LONGEST_WAIT", 0.1)
    with bench(tmp_path, concurrency=1) as b:
        b.run("echo")
        gate = Gate(tmp_path / "gate")
        waiting = [make("echo") for _ in range(300)]
        b.offer(gate.task, *waiting)
        for task in waiting:
            assert b.sink.body(task)["status"] == "released"
        gate.open()
        assert b.sink.body(gate.task)["status"] == "completed"


def test_a_task_of_several_slots_goes_on_waiting_for_them(tmp_path: Path) -> None:
    line = sharing.Sharing(Pace(), 2)
    wide, *behind = Ledger(tmp_path).enter(make("echo", cost=cost) for cost in (2, 1, 1))
    line.add([wide, *behind])
    due = behind[0].entered_at + sharing.LONGEST_WAIT
    assert line.overdue_at() == due
    assert line.overdue(due - 1) == []
    assert line.overdue(due) == behind
    assert line.remove_all() == [wide]
