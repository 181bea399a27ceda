"""Report: what a lease ended in, and the verdict on it (DESIGN mechanism 3).

The common case, a success of a live lease, is one statement for a whole batch. Everything else is decided one by one:
a live lease ends as its outcome says; a success of an ended lease still counts while its generation is the present
one and the task is neither completed nor cancelled; whatever comes a second time is a duplicate.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from dispatcher.model import End, EndedLease, LeaseEnd, LeaseName, Outcome, Progress, State, TaskRow
from dispatcher.queue import ending, output
from dispatcher.queue.blame import Failure
from dispatcher.queue.defaults import Defaults
from dispatcher.store.base import Tx

COMPLETED = End.COMPLETED


class Verdict(str, Enum):
    """The answer to an outcome; the first five are definitive."""

    ACCEPTED = "accepted"
    ACCEPTED_LATE = "accepted_late"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class Reported(NamedTuple):
    """A verdict for each outcome, in order, and the failures for which their worker may be to blame."""

    verdicts: list[Verdict]
    failures: list[Failure]


def report(tx: Tx, outcomes: Sequence[Outcome], defaults: Defaults) -> Reported:
    """Apply outcomes."""
    plain = [o for o in outcomes if o.status is COMPLETED and o.upload is None]
    fresh = tx.complete(plain)
    if len(fresh) == len(outcomes):  # each a success of its own live lease
        _keep_last_words(tx, outcomes)
        return Reported([Verdict.ACCEPTED] * len(outcomes), [])
    verdicts: list[Verdict] = []
    failures: list[Failure] = []
    for outcome in outcomes:
        if outcome.name in fresh and outcome.status == End.COMPLETED:
            fresh.discard(outcome.name)  # the same lease twice in one report: the second is a duplicate
            verdicts.append(Verdict.ACCEPTED)
        else:
            verdicts.append(_settle(tx, outcome, defaults, failures))
    _keep_last_words(tx, [o for o, v in zip(outcomes, verdicts, strict=True) if v == Verdict.ACCEPTED])
    return Reported(verdicts, failures)


def _keep_last_words(tx: Tx, outcomes: Sequence[Outcome]) -> None:
    output.record(tx, [Progress(o.name, None, None, None, None, log=o.log) for o in outcomes if o.log])


def _settle(tx: Tx, outcome: Outcome, defaults: Defaults, failures: list[Failure]) -> Verdict:
    row = tx.tasks([outcome.name.task_id]).get(outcome.name.task_id)
    if row is None:
        return Verdict.UNKNOWN
    if row.state == State.IN_PROGRESS and row.lease == outcome.name.token:
        return _end_live(tx, row, outcome, defaults, failures)
    return _end_again(tx, row, outcome)


def _end_live(tx: Tx, row: TaskRow, outcome: Outcome, defaults: Defaults, failures: list[Failure]) -> Verdict:
    if _lacks_upload(tx, outcome):
        return Verdict.INVALID
    if outcome.status == End.COMPLETED:
        tx.complete([outcome])
    else:
        end = ending.reported(tx, row, outcome, defaults)
        tx.end([end])
        if outcome.crashed:
            tx.note_crash(outcome.name)
        if outcome.status == End.FAILED and outcome.retry and row.cancel_requested_at is None:
            failures.append(Failure(row, end.run_at))
    return Verdict.ACCEPTED


def _lacks_upload(tx: Tx, outcome: Outcome) -> bool:
    """Asked only where the result would count: repeats and losers are answered whatever became of their uploads."""
    return outcome.upload is not None and tx.upload(outcome.name) != outcome.upload


def _end_again(tx: Tx, row: TaskRow, outcome: Outcome) -> Verdict:
    """The lease is not live: it won, it has ended, or it never was."""
    if row.state == State.COMPLETED and row.lease == outcome.name.token:
        return Verdict.DUPLICATE
    ended = tx.ended([outcome.name]).get(outcome.name)
    if ended is None:
        return Verdict.UNKNOWN
    if ended.how == outcome.status:
        return Verdict.DUPLICATE
    if outcome.status == End.COMPLETED and _counts_late(row, ended):
        return Verdict.INVALID if _lacks_upload(tx, outcome) else _complete_late(tx, row, outcome, ended)
    return Verdict.CANCELLED if row.state == State.CANCELLED else Verdict.SUPERSEDED


def _counts_late(row: TaskRow, ended: EndedLease) -> bool:
    return ended.generation == row.generation and row.state not in (State.COMPLETED, State.CANCELLED)


def _complete_late(tx: Tx, row: TaskRow, outcome: Outcome, ended: EndedLease) -> Verdict:
    if row.state == State.IN_PROGRESS and row.lease is not None:
        beaten = LeaseName(row.id, row.lease)
        tx.end([LeaseEnd(beaten, End.SUPERSEDED, "another attempt succeeded first", True, State.PENDING)])
    late = tx.complete_late(outcome, ended)
    return Verdict.ACCEPTED_LATE if late else Verdict.SUPERSEDED
