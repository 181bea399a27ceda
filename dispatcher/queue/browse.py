"""Pages of tasks for people: instant whatever the size of the queue.

A state that ends is read by the index of ends, the newest end first; what runs (and a short line) from the small
indexes that hold it; everything else from the newest task down, piece by piece, until the page is full or a moment has
passed. A page says how many tasks it looked at, and from where to look on.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dispatcher.errors import Invalid
from dispatcher.model import FINAL, State
from dispatcher.queue.find import Find, normal
from dispatcher.queue.queue import Queue
from dispatcher.store.base import Reader
from dispatcher.store.browse import PAST, Ended, Sieve

PATIENCE_S = 0.4
PIECE = 20_000  # tasks in one read that only looks at their rows
CLOSELY = 500  # of which also the texts are read
HELD = 50  # texts in memory at a time; one may have a mebibyte
FEW = 5_000
GROUPED = 2_000  # newest failures that are grouped by their errors


class Page(NamedTuple):
    """Tasks, and where to look on (None: that was all); `looked` is how many were looked at to find them."""

    rows: list[dict[str, Any]]
    cursor: str | None
    looked: int


class Piece(NamedTuple):
    """Ids that the store picked, with the cursor behind each; the cursor behind all, None at the end."""

    ids: list[tuple[int, str]]
    cursor: str | None
    looked: int


def page(queue: Queue, find: Find, cursor: str | None, limit: int, patience_s: float = PATIENCE_S) -> Page:
    """The next tasks that fit. Raises Invalid for a cursor that is none."""
    found: list[dict[str, Any]] = []
    looked, deadline = 0, time.monotonic() + patience_s
    size = limit if find.plain else CLOSELY
    while True:
        with queue.store.read() as reader:
            piece = _piece(reader, find, cursor, size)
        for place, (behind, row) in enumerate(_read(queue, piece.ids[:size]), 1):
            if row is not None and find.fits(row):
                found.append(row)
            late = not find.plain and time.monotonic() > deadline  # a look at one large text can take long
            if len(found) == limit or late:
                more = place < len(piece.ids) or piece.cursor is not None
                return Page(found, behind if more else None, looked + place)
        looked += size if len(piece.ids) > size else piece.looked
        cursor = piece.ids[size - 1][1] if len(piece.ids) > size else piece.cursor
        if cursor is None or time.monotonic() > deadline:
            return Page(found, cursor, looked)


def _read(queue: Queue, ids: Sequence[tuple[int, str]]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The cursor behind each task, and the task unless it has gone."""
    for start in range(0, len(ids), HELD):
        some = ids[start : start + HELD]
        with queue.store.read() as reader:
            rows = {row["task_id"]: row for row in reader.listed([task_id for task_id, _ in some])}
        yield from ((behind, rows.get(task_id)) for task_id, behind in some)


def _piece(reader: Reader, find: Find, cursor: str | None, size: int) -> Piece:
    lanes = _lanes(reader, find)
    by_end = find.state in FINAL and find.tag is None and find.worker_id is None
    if cursor and cursor.startswith("e") != by_end:
        raise Invalid("cursor", "belongs to another search")
    if by_end:
        return _ended(reader, find, lanes, cursor, size)
    below = PAST if cursor is None else _numbers(cursor, 1)[0]
    sieve = Sieve(None if find.state is None else (find.state,), lanes, find.tag, find.worker_id)
    few = _few(reader, find.state)
    if few is not None and find.tag is None and find.worker_id is None:
        wanted = [task_id for task_id in few if task_id < below]
        fit = None if lanes is None else {r["task_id"] for r in reader.signs(wanted) if _of(r, find)}
        ids = [(task_id, f"i{task_id}") for task_id in wanted if fit is None or task_id in fit]
        return Piece(ids, None, len(wanted))
    picked, lowest, looked = reader.stretch(sieve, below, size + 1 if sieve == Sieve() else PIECE)
    return Piece([(i, f"i{i}") for i in picked], None if lowest is None else f"i{lowest}", looked)


def _ended(reader: Reader, find: Find, lanes: Sequence[int] | None, cursor: str | None, size: int) -> Piece:
    state = find.state or State.FAILED
    if lanes is None:
        lanes = [lane for lane, _, _ in reader.lane_ids()]
    before = None if cursor is None else Ended(*_numbers(cursor, 2))
    ended = reader.newest_ended(state, lanes, before, size + 1)
    ids = [(one.task_id, f"e{one.at}-{one.task_id}") for one in ended]
    return Piece(ids, None, min(len(ids), size))


def _few(reader: Reader, state: State | None) -> list[int] | None:
    """All that run; all that are pending where the line is short, and none is held by its key's limit (such have no
    index)."""
    if state == State.IN_PROGRESS:
        return reader.few(state, FEW)
    if state != State.PENDING:
        return None
    pending = sum(n.get(State.PENDING.value, 0) for n in reader.counts().values())
    found = reader.few(State.PENDING, FEW) if pending <= FEW else None
    return found if found is not None and len(found) == pending else None


def _lanes(reader: Reader, find: Find) -> list[int] | None:
    if find.queue is None and find.task_type is None:
        return None
    wanted = (find.queue, find.task_type)
    return [i for i, queue, kind in reader.lane_ids() if wanted[0] in (None, queue) and wanted[1] in (None, kind)]


def _of(row: dict[str, Any], find: Find) -> bool:
    return find.queue in (None, row["queue"]) and find.task_type in (None, row["task_type"])


def _numbers(cursor: str, n: int) -> list[int]:
    parts = cursor[1:].split("-")
    if cursor[0] not in "ie" or len(parts) != n or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
        raise Invalid("cursor", "is not one of ours")
    return [int(part) for part in parts]


class Group(NamedTuple):
    """Failures with the same error."""

    error: str
    tasks: int
    newest: int
    types: list[str]


def failures(queue: Queue, find: Find) -> tuple[list[Group], int]:
    """The newest failures by their errors, the most frequent first, and how many were looked at."""
    failed = Find(state=State.FAILED, task_type=find.task_type, queue=find.queue)
    with queue.store.read() as reader:
        piece = _ended(reader, failed, _lanes(reader, failed), None, GROUPED)
        rows = reader.signs([task_id for task_id, _ in piece.ids[:GROUPED]])
    counts: Counter[str] = Counter()
    types: dict[str, set[str]] = {}
    newest: dict[str, int] = {}
    for row in rows:
        error = normal(row["error"] or "")
        counts[error] += 1
        types.setdefault(error, set()).add(row["task_type"])
        newest[error] = max(newest.get(error, 0), row["task_id"])
    groups = [Group(error, n, newest[error], sorted(types[error])) for error, n in counts.most_common()]
    return groups, len(rows)


def known(queue: Queue, find: Find) -> dict[str, int] | None:
    """How many tasks are in each state, of the queue and type that are looked for; None when only a look at every
    task could tell."""
    if not find.plain or find.tag is not None or find.worker_id is not None:
        return None
    with queue.store.read() as reader:
        counts = reader.counts()
    wanted = [n for (name, kind), n in counts.items() if find.queue in (None, name) and find.task_type in (None, kind)]
    return {state.value: sum(n.get(state.value, 0) for n in wanted) for state in State}
