"""What maintenance reads is read again exactly when something was written, or clocks may have moved."""

from pathlib import Path

from dispatcher.queue import Queue
from dispatcher.queue.kept import LONGEST_S, Kept
from dispatcher.queue.submit import Submission
from dispatcher.store.base import Reader
from dispatcher.store.sqlite import SqliteStore


class Asked:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, reader: Reader) -> int | None:
        self.times += 1
        return reader.next_due()


def test_it_is_read_once_until_something_is_written(tmp_path: Path) -> None:
    store, asked, now = SqliteStore(tmp_path / "queue.db"), Asked(), [100.0]
    kept, queue = Kept(lambda: now[0]), Queue(store)
    assert [kept.read(store, "due", asked) for _ in range(3)] == [None, None, None]
    assert asked.times == 1
    queue.submit([Submission("noop", "{}", run_at=2**42)])
    assert [kept.read(store, "due", asked) for _ in range(3)] == [2**42] * 3
    assert asked.times == 2
    now[0] += LONGEST_S
    assert kept.read(store, "due", asked) == 2**42
    assert asked.times == 3
    store.close()


def test_another_store_is_asked_itself(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / name) for name in ("a.db", "b.db")]
    Queue(stores[0]).submit([Submission("noop", "{}", run_at=2**42)])
    Queue(stores[1]).submit([Submission("noop", "{}", run_at=2**43)])
    kept = Kept()
    assert [kept.read(store, "due", Asked()) for store in stores] == [2**42, 2**43]
    for store in stores:
        store.close()
