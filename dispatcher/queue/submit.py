"""Submit: tasks come in once, whatever their sender repeats (DESIGN mechanism 4)."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from dispatcher.errors import KeyConflict
from dispatcher.model import KEYED, NewTask, TaskTerms
from dispatcher.queue import deadlines, unique
from dispatcher.queue.defaults import NOTHING, Defaults
from dispatcher.queue.terms import Terms
from dispatcher.queue.turns import check_backlog
from dispatcher.store.base import Tx

TWIN = b"twin"  # ends the digest of a submit that was answered with its twin: so is its repeat


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
    requires: tuple[str, ...] = ()  # labels that a worker must have
    limit_key: str | None = None  # `key` on the wire: what the queue's limit for each key counts
    unique_key: str | None = None
    unique_for_ms: int | None = None  # None: while the twin is unfinished


class RequestName(NamedTuple):
    """What a bulk submit is called as a whole; `digest` tells two bodies under one key apart."""

    key: str
    digest: bytes


class Submitted(NamedTuple):
    """The task id of each submission, in order; `created` is False where it is that of a twin."""

    ids: list[int]
    created: list[bool]

    @classmethod
    def anew(cls, newest: int, number: int) -> "Submitted":
        """So many new tasks, whose ids follow one another."""
        return cls(list(range(newest - number + 1, newest + 1)), [True] * number)


def submit_once(
    tx: Tx, name: RequestName, submissions: Sequence[Submission], terms: Terms, defaults: Defaults = NOTHING
) -> Submitted:
    """Store what is new, unless it was done under this name; one row remembers that. Raises KeyConflict.

    The row has the newest id, and is forgotten some time after that task is gone, which it may be already. An answer
    that does not follow from the id stands behind the digest as JSON.
    """
    known = tx.known_keys([name.key]).get(name.key)
    if known is not None:
        return _repeated(name, *known, len(submissions))
    if name.key in [s.key for s in submissions]:
        raise KeyConflict(name.key)
    made = submit(tx, submissions, terms, defaults)
    newest = max(made.ids)
    answer = b"" if made == Submitted.anew(newest, len(made.ids)) else _written(made)
    tx.remember_keys([(name.key, newest, name.digest + answer)])
    if not tx.tasks([newest]):
        tx.orphan_keys([newest])
    return made


def _written(made: Submitted) -> bytes:
    return json.dumps([made.ids] if all(made.created) else made).encode()


def _repeated(name: RequestName, newest: int, remembered: bytes, number: int) -> Submitted:
    digest, answer = remembered[: len(name.digest)], remembered[len(name.digest) :]
    if digest != name.digest:
        raise KeyConflict(name.key)
    if not answer:
        return Submitted.anew(newest, number)
    ids, *created = json.loads(answer)
    return Submitted(ids, created[0] if created else [True] * number)


def submit(tx: Tx, submissions: Sequence[Submission], terms: Terms, defaults: Defaults = NOTHING) -> Submitted:
    """Store what is new. Raises KeyConflict, and then stores nothing."""
    keys = [s.key for s in submissions if s.key is not None]
    known = dict(tx.known_keys(keys)) if keys else {}
    fresh = submissions if not known and len(set(keys)) == len(keys) else _fresh(submissions, known)
    placed = _place(tx, fresh, terms, defaults)
    uses = [(s.key, task_id, s.digest if new else s.digest + TWIN) for s, task_id, new in placed if s.key is not None]
    tx.remember_keys(uses)
    if len(placed) == len(submissions):  # nothing was a repeat
        return Submitted([task_id for _, task_id, _ in placed], [new for _, _, new in placed])
    known.update({key: (task_id, digest) for key, task_id, digest in uses})
    unnamed = iter([(task_id, new) for s, task_id, new in placed if s.key is None])
    answers = [_answer(s, *known[s.key]) if s.key is not None else next(unnamed) for s in submissions]
    return Submitted([task_id for task_id, _ in answers], [created for _, created in answers])


def _fresh(submissions: Sequence[Submission], known: dict[str, tuple[int, bytes]]) -> Sequence[Submission]:
    digests = {key: digest for key, (_, digest) in known.items()}
    fresh = []
    for submission in submissions:
        if submission.key is None:
            fresh.append(submission)
        elif submission.key not in digests:
            digests[submission.key] = submission.digest
            fresh.append(submission)
        elif digests[submission.key] not in (submission.digest, submission.digest + TWIN):
            raise KeyConflict(submission.key)
    return fresh


def _place(tx: Tx, fresh: Sequence[Submission], terms: Terms, defaults: Defaults) -> list[tuple[Submission, int, bool]]:
    """Store those that have no twin: each with its task, and whether it is new."""
    twins = unique.twins(tx, fresh)
    new = [s for n, s in enumerate(fresh) if n not in twins.of] if twins.of else fresh
    check_backlog(tx, (s.queue for s in new))
    if twins is unique.NONE:
        return [(s, i, True) for s, i in zip(fresh, _insert(tx, fresh, terms, defaults), strict=True)]
    ids = iter(_insert(tx, new, terms, defaults))
    placed: list[tuple[Submission, int, bool]] = []
    holders: dict[str | None, int] = {}
    for n, submission in enumerate(fresh):
        if n in twins.of:
            task_id = twins.of[n] or holders[submission.unique_key]
        else:
            task_id = holders[submission.unique_key] = next(ids)
        placed.append((submission, task_id, n not in twins.of))
    if holds := {key: (task_id, tx.now.wall) for key, task_id in holders.items() if key is not None}:
        tx.hold(holds, twins.known)
    return placed


def _answer(submission: Submission, task_id: int, digest: bytes) -> tuple[int, bool]:
    return task_id, digest == submission.digest


def _insert(tx: Tx, fresh: Sequence[Submission], terms: Terms, defaults: Defaults) -> Sequence[int]:
    """Store new tasks, and begin their limits of time; their ids."""
    on_terms: dict[tuple[object, ...], TaskTerms] = {}
    new = []
    for s in fresh:
        asked = (s[0], s[2:8], s.requires, s.limit_key is None)  # all that the terms are made of
        if (shared := on_terms.get(asked)) is None:
            shared = on_terms[asked] = _terms(tx, s, terms, defaults)
        options = s.options if s.unique_key is None else unique.named(s.options, s.unique_key)
        new.append(NewTask(shared, s.data, s.tags, options, s.limit_key))
    ids = tx.insert(new)
    if any(task.options for task in new):
        deadlines.begin(tx, [(i, 1, task.terms.run_at, task.options) for i, task in zip(ids, new, strict=True)])
    return ids


def _terms(tx: Tx, s: Submission, terms: Terms, defaults: Defaults) -> TaskTerms:
    run_at = s.run_at if s.run_at is not None else tx.now.wall + (s.delay_ms or 0)
    requires = tuple(sorted(set(s.requires))) if s.requires else ()
    lane_id = tx.lane(s.queue, s.task_type, requires if s.limit_key is None else (KEYED, *requires))
    of_type = defaults.of(s.task_type)
    attempts = s.max_attempts or of_type.max_attempts or terms.max_attempts
    timeout = of_type.timeout_ms if s.timeout_ms is None else s.timeout_ms
    return TaskTerms(lane_id, s.priority, run_at, attempts, timeout)
