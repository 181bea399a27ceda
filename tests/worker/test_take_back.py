"""A child and its supervisor draw from the same line at the same time: each task is one's or the other's."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from process_helpers import bench, make

from worker.children.ledger import Held, Ledger
from worker.children.process import ChildProcess


class Line:
    """The supervisor's view of a line whose packets it and the child take by turns."""

    def __init__(self, packets: Iterator[bytes]) -> None:
        self._packets = packets

    def recv(self, size: int) -> bytes:
        try:
            return next(self._packets)
        except StopIteration:
            raise BlockingIOError from None


def child(tmp_path: Path, tasks: int, takes: list[int]) -> tuple[ChildProcess, list[Held]]:
    """A child with so many tasks in its line, of which the supervisor gets these."""
    held = Ledger(tmp_path).enter(make("echo") for _ in range(tasks))
    made = ChildProcess.__new__(ChildProcess)
    made.line, made.allowance = deque(held), 0
    made._line_end = cast("object", Line(iter([held[place].packet for place in takes])))  # type: ignore[assignment]
    return made, held


def test_what_comes_back_is_what_the_packets_say(tmp_path: Path) -> None:
    """The child took the first, and another one between two looks of ours."""
    one, held = child(tmp_path, 5, [1, 2, 4])
    assert one.take_back() == [held[1], held[2], held[4]]
    assert list(one.line) == [held[0], held[3]], "these will be announced, in this order"
    assert one.allowance == 3


def test_an_empty_line_gives_nothing_back(tmp_path: Path) -> None:
    one, held = child(tmp_path, 2, [])
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
