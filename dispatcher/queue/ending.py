"""What a task becomes when a lease of it ends other than by success, and whether that attempt counts.

Failures, crashes and losses count; what was released or snoozed does not, nor a loss after the attempt had saved a
newer checkpoint than the one that it began with: a task of three days must survive three reboots.
"""

from collections.abc import Sequence

from dispatcher.model import End, LeaseEnd, LeaseName, Outcome, State, TaskRow
from dispatcher.queue import options
from dispatcher.queue.defaults import Defaults, backoff_of
from dispatcher.store.base import Tx

POISON = 3  # children that a task may kill, in one generation
ERROR_CHARS = 64 * 1024
HEAD_CHARS = 4 * 1024  # of a long error its beginning stays, and its end
REASONS = {
    End.EXPIRED: "the lease expired: its worker fell silent",
    End.UNLISTED: "the worker does not know this lease",
    End.DIED: "the worker process died",
}
SAVED = "; it had saved a checkpoint, so the attempt does not count"


def reported(tx: Tx, row: TaskRow, outcome: Outcome, defaults: Defaults) -> LeaseEnd:
    """The end of a live lease as its holder reported it."""
    charged = outcome.status in (End.FAILED, End.CANCELLED)
    end = LeaseEnd(outcome.name, outcome.status, _bounded(outcome.error), charged, State.PENDING)
    if row.cancel_requested_at is not None:
        return _stopped(tx, end)
    if outcome.status == End.CANCELLED:
        return end._replace(state=State.CANCELLED)
    if outcome.status == End.SNOOZED:
        return end._replace(run_at=tx.now.wall + outcome.snooze_ms)
    return _failed(tx, row, outcome, end, defaults) if outcome.status == End.FAILED else end


def _failed(tx: Tx, row: TaskRow, outcome: Outcome, end: LeaseEnd, defaults: Defaults) -> LeaseEnd:
    crashes = 1 + tx.crashes(row.id, row.generation) if outcome.crashed else 0
    if crashes >= POISON:
        return end._replace(state=State.FAILED, error=f"poison: it killed its child {crashes} times\n{end.error or ''}")
    if not outcome.retry or row.attempts >= row.max_attempts:
        return end._replace(state=State.FAILED)
    own = options.of(tx, [row.id])[row.id].backoff
    backoff = backoff_of(own, defaults.of(tx.lane_of(row.lane_id).task_type))
    return end._replace(run_at=tx.now.wall + backoff.delay(row.attempts))


def lost(tx: Tx, rows: Sequence[tuple[TaskRow, bool]], how: End) -> list[LeaseEnd]:
    """The ends of live leases that their holder lost; of each whether it was begun: else its attempt is given back."""
    names = [LeaseName(row.id, row.lease or 0) for row, begun in rows if begun]
    saved = tx.checkpointed(names) if names else set()
    return [_lost(tx, row, how, begun, saved) for row, begun in rows]


def _lost(tx: Tx, row: TaskRow, how: End, begun: bool, saved: set[LeaseName]) -> LeaseEnd:
    name = LeaseName(row.id, row.lease or 0)
    excused = begun and name in saved
    end = LeaseEnd(name, how, REASONS[how] + SAVED * excused, begun and not excused, State.PENDING)
    if row.cancel_requested_at is not None:
        return _stopped(tx, end)
    return end._replace(state=State.FAILED) if end.charged and row.attempts >= row.max_attempts else end


def _stopped(tx: Tx, end: LeaseEnd) -> LeaseEnd:
    """Its holder was told to stop: the task is cancelled, or it fails because its time is over."""
    length = tx.over_total(end.name.task_id)
    if length is None:
        return end._replace(state=State.CANCELLED)
    reason = over_total(length)
    return end._replace(state=State.FAILED, error=f"{reason}\n{end.error}" if end.error else reason)


def over_total(length_ms: int) -> str:
    """Why a task failed whose `total` limit is over."""
    return f"not done within {length_ms / 1000:g} s (total_seconds)"


def _bounded(error: str | None) -> str | None:
    if error is None or len(error) <= ERROR_CHARS:
        return error
    return f"{error[:HEAD_CHARS]}\n...\n{error[HEAD_CHARS - ERROR_CHARS :]}"
