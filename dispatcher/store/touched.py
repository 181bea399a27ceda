"""What a transaction did to tasks with keys, noted until their keys are settled."""

from collections.abc import Iterable

Name = tuple[str, str]  # queue and key
Place = tuple[int, int, int]  # how much was noted of each kind
NOTHING: Place = (0, 0, 0)


class Touched:
    """What a transaction did to tasks with keys and has not settled yet."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._names: list[Name] = []
        self._started: list[int] = []
        self._settled = NOTHING
        self.locked = False

    def task(self, task_id: int) -> None:
        """A task with a key changed."""
        self._ids.append(task_id)

    def names(self, names: Iterable[Name]) -> None:
        """Keys got further held tasks."""
        self._names.extend(names)

    def started(self, ids: Iterable[int]) -> None:
        """Tasks whose key has a rate were leased."""
        self._started.extend(ids)

    def take(self) -> tuple[list[int], set[Name], list[int]]:
        """What is to be settled now: tasks, keys, and each start."""
        ids, names, started = self._settled
        self._settled = self._reached()
        return sorted(set(self._ids[ids:])), set(self._names[names:]), self._started[started:]

    def _reached(self) -> Place:
        return len(self._ids), len(self._names), len(self._started)

    def mark(self) -> tuple[Place, Place]:
        """A place to undo to."""
        return self._reached(), self._settled

    def undo(self, mark: tuple[Place, Place]) -> None:
        """Take back everything since the mark, what was settled, too."""
        (ids, names, started), self._settled = mark
        del self._ids[ids:], self._names[names:], self._started[started:]

    def forget(self) -> None:
        """The transaction is over."""
        self.undo((NOTHING, NOTHING))
        self.locked = False
