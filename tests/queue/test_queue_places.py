"""Requests that wait hold threads of the server: there is one bound for all of them."""

import threading
import time
from pathlib import Path

from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.submit import Submission
from dispatcher.store.sqlite import SqliteStore


def test_one_wait_too_many_is_answered_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    queue = Queue(store, most_waiting=1)
    task_id = queue.submit([Submission("noop", "{}", queue="else")])[0]
    waiter = threading.Thread(target=queue.wait_tasks, args=([task_id], 20))
    waiter.start()
    try:
        deadline = time.monotonic() + 10
        while queue._places.acquire(blocking=False):
            queue._places.release()
            assert time.monotonic() < deadline, "the waiter takes no place"
            time.sleep(0.001)
        began = time.monotonic()
        asked = Claim("w", "secret", 1, 1, queues=frozenset({"default"}), wait_ms=20_000)
        assert queue.claim(asked).tasks == []
        assert queue.wait_tasks([task_id], 20) == ([], 1)
        assert time.monotonic() - began < 5
    finally:
        queue.drain()
        waiter.join()
        store.close()
