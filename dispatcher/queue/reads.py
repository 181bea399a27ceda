"""What is read of tasks and passed on as it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dispatcher.model import Output, State, TaskFilter
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

    def signs(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """What a line of a list shows of tasks."""
        with self.store.read() as reader:
            return reader.signs(ids)

    def running(self, most: int) -> list[dict[str, Any]]:
        """The same of all that run; nothing where there are more."""
        with self.store.read() as reader:
            return reader.signs(reader.few(State.IN_PROGRESS, most) or [])

    def lanes(self, limit: int) -> list[tuple[str, str]]:
        """The queue and type of lanes, as many as that."""
        with self.store.read() as reader:
            return [(queue, task_type) for _, queue, task_type in reader.lane_ids()[:limit]]

    def type_schemas(self) -> Mapping[str, str | None]:
        """The payload schemas of the types that workers have, as JSON text."""
        with self.store.read() as reader:
            return reader.type_schemas()

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
