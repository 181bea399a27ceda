"""Submit: tasks come in once, whatever their sender repeats (DESIGN mechanism 4)."""

from collections.abc import Sequence
from typing import NamedTuple

from dispatcher.errors import KeyConflict
from dispatcher.model import NewTask
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx


class Submission(NamedTuple):
    """A task as its sender wrote it; `digest` tells two bodies under one key apart."""

    task_type: str
    data: str
    queue: str = "default"
    priority: int = 0
    run_at: int | None = None
    delay_ms: int | None = None
    max_attempts: int | None = None
    timeout_ms: int | None = None
    tags: tuple[str, ...] = ()
    key: str | None = None
    digest: bytes = b""
    options: str | None = None  # what it rarely asks for (`options.py`), as JSON text


def submit(tx: Tx, submissions: Sequence[Submission], terms: Terms) -> list[int]:
    """Store what is new; the task id of each submission, in order. Raises KeyConflict, and then stores nothing."""
    keys = [s.key for s in submissions if s.key is not None]
    known = dict(tx.known_keys(keys)) if keys else {}
    fresh = _fresh(submissions, known)
    ids = iter(tx.insert([_new_task(tx, s, terms) for s in fresh]))
    made = [(s, next(ids)) for s in fresh]
    tx.remember_keys([(s.key, task_id, s.digest) for s, task_id in made if s.key is not None])
    known.update({s.key: (task_id, s.digest) for s, task_id in made if s.key is not None})
    unnamed = iter(task_id for s, task_id in made if s.key is None)
    return [known[s.key][0] if s.key is not None else next(unnamed) for s in submissions]


def _fresh(submissions: Sequence[Submission], known: dict[str, tuple[int, bytes]]) -> list[Submission]:
    digests = {key: digest for key, (_, digest) in known.items()}
    fresh = []
    for submission in submissions:
        if submission.key is None:
            fresh.append(submission)
        elif submission.key not in digests:
            digests[submission.key] = submission.digest
            fresh.append(submission)
        elif digests[submission.key] != submission.digest:
            raise KeyConflict(submission.key)
    return fresh


def _new_task(tx: Tx, s: Submission, terms: Terms) -> NewTask:
    run_at = s.run_at if s.run_at is not None else tx.now.wall + (s.delay_ms or 0)
    lane_id = tx.lane(s.queue, s.task_type)
    return NewTask(
        lane_id, s.data, s.priority, run_at, s.max_attempts or terms.max_attempts, s.timeout_ms, s.tags, s.options
    )
