"""What is read of tasks and passed on as it is."""

from collections.abc import Iterator
from typing import Any

from dispatcher.model import Output, TaskFilter
from dispatcher.queue.rare import narrowed
from dispatcher.store.base import Store

ANSWER_BYTES = 16 * 2**20


class Reads:
    """A part of the queue."""

    store: Store

    def output(self, task_id: int) -> Output | None:
        """The partial result and the log of a task, if it has any."""
        with self.store.read() as reader:
            return reader.output(task_id)

    def tasks(self, wanted: TaskFilter, after: int | None, limit: int) -> list[dict[str, Any]]:
        """A page of tasks, newest first, as many as fit an answer."""
        with self.store.read() as reader:
            return reader.tasks(narrowed(reader, wanted, after, limit), after, limit, ANSWER_BYTES)

    def result_parts(self, task_id: int) -> Iterator[bytes]:
        """The parts of an uploaded result, each its own short read."""
        number = 0
        while True:
            with self.store.read() as reader:
                part = reader.result_part(task_id, number)
            if part is None:
                return
            yield part
            number += 1
