"""The contract of a store about attempts: defaults of types, crashes, checkpoints, limits of time, blame.

A part of `base.py`, whose promises hold here as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dispatcher.model import Deadline, LeaseName

RECENT = 1_000  # completed tasks of each lane that are looked through for who succeeds with a type


class AttemptTx(Protocol):
    """Operations inside a transaction."""

    def register_defaults(self, defaults: Mapping[str, str | None]) -> None:
        """Remember what registered task types want unless a task says otherwise (JSON text)."""

    def note_crash(self, name: LeaseName) -> None:
        """An ended lease ended in the death of its child."""

    def crashes(self, task_id: int, generation: int) -> int:
        """How many leases of this generation ended so."""

    def checkpointed(self, names: Sequence[LeaseName]) -> set[LeaseName]:
        """Those of the leases under which the task's present checkpoint was saved."""

    def set_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Set limits of time, or replace them."""

    def drop_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Forget limits of time."""

    def put_off_deadlines(self, by: int) -> None:
        """The wall clock has just skipped so many milliseconds: limits that have begun end so much later, and those
        whose beginning was skipped begin now. All at once, which may take a second for a million of them; only for a
        store with a steady clock of its own, that one dispatcher holds."""

    def due_deadlines(self, limit: int) -> list[Deadline]:
        """Limits whose time has come, the oldest first, locked, but for those that another dispatcher has in hand."""

    def over_total(self, task_id: int) -> int | None:
        """The length of a task's `total` limit, if it is over and its holder was told to stop."""

    def first_taken(self, generations: Sequence[tuple[int, int]]) -> Mapping[int, int]:
        """When tasks were first taken in a generation (task_id, generation), as far as such leases have ended."""

    def fail_waiting(self, reasons: Mapping[int, str]) -> set[int]:
        """Fail tasks that nobody holds (pending, blocked), each leaving a row that says why; the ids that were."""

    def succeeded_with(self, task_type: str, since: int) -> set[str]:
        """The worker_ids that completed tasks of this type since then, among the most recent completions."""

    def blame(self, worker_id: str, task_type: str, reason: str) -> None:
        """This worker shall get no more of this type."""

    def forgive(self, worker_id: str, task_type: str | None) -> int:
        """Take that back, without a type for all of them; how many."""

    def stir(self) -> None:
        """Count every lane with ready tasks among the fresh ones: somebody may take now what he could not before."""


class AttemptReader(Protocol):
    """Reads of one moment."""

    def type_defaults(self) -> dict[str, str | None]:
        """What the registered task types want unless a task says otherwise."""

    def blames(self) -> list[dict[str, Any]]:
        """Which workers do not get which types: worker_id, task_type, blamed_at, reason."""

    def next_deadline(self) -> int | None:
        """When the next limit of time has to be looked at, UTC milliseconds."""
