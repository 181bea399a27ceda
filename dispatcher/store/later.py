"""The part of the contract that is about later: recurring schedules, and tasks that may exist only once."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from dispatcher.model import Schedule


class Holder(NamedTuple):
    """The task that holds a unique key; `since` is when it was submitted, UTC milliseconds."""

    task_id: int
    since: int
    unfinished: bool


COLUMNS = ", ".join(Schedule._fields)


class LaterOps(Protocol):
    """What an operation may do with schedules and unique keys."""

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name, locked for this transaction."""

    def due_schedules(self, limit: int, but: Collection[str] = ()) -> list[Schedule]:
        """Schedules whose next tick has come, the oldest first, locked; none that another dispatcher has locked, none
        of those named in `but`."""

    def add_schedule(self, schedule: Schedule) -> bool:
        """Store a new schedule; False when there is one of this name."""

    def put_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Overwrite schedules that this transaction has locked."""

    def drop_schedule(self, name: str) -> bool:
        """Delete a schedule; False when there is none."""

    def holders(self, keys: Sequence[str]) -> Mapping[str, Holder]:
        """The holder of each unique key that has one, locked for this transaction."""

    def hold(self, holds: Mapping[str, tuple[int, int]], known: Collection[str]) -> None:
        """Make (task_id, since) the holder of each unique key; `known` are those that `holders` returned."""


class LaterReads(Protocol):
    """What a reader tells of schedules."""

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name."""

    def schedules(self, after: str, limit: int) -> list[Schedule]:
        """A page of schedules by name, from behind `after`."""

    def next_tick(self) -> int | None:
        """When the next tick of any schedule comes, UTC milliseconds."""
