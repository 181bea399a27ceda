"""A child and its supervisor draw from the same line at the same time: each task is one's or the other's."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from process_helpers import bench, make

from worker.children.ledger import Held, Ledger
from worker.children.line import Line
from worker.children.process import ChildProcess
from worker.children.work import WorkLine


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
