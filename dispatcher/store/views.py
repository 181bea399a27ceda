"""What the readers of both stores share: the statements for display, filters, and pages that fit an answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dispatcher.model import EndedTask, State, TaskFilter
from dispatcher.store.packing import unpack_text

T = TypeVar("T")
_VIEW = """SELECT t.id AS task_id, l.task_type, l.queue, l.requires, t.state AS status, t.priority, t.attempts,
    t.max_attempts, t.generation, t.timeout_ms, t.created_at, t.run_at, t.started_at, t.finished_at,
    t.cancel_requested_at, t.lease,
    i.worker_id AS assigned_to, d.data, d.tags, d.options, t.ready, t.held, k.key AS limit_key,
    p.done, p.total, p.note, r.body AS result, r.packed,
    r.run_ms, u.bytes, u.sha256, u.media_type,
    CASE WHEN t.state IN ('failed', 'cancelled', 'pending') THEN
        (SELECT error FROM ended_leases WHERE task_id = t.id ORDER BY id DESC LIMIT 1) END AS error
    FROM {tasks} JOIN lanes AS l ON l.id = t.lane_id JOIN task_data AS d ON d.task_id = t.id
    LEFT JOIN task_keys AS k ON k.task_id = t.id
    LEFT JOIN instances AS i ON i.id = t.lease_instance
    LEFT JOIN progress AS p ON p.task_id = t.id
    LEFT JOIN results AS r ON r.task_id = t.id
    LEFT JOIN uploads AS u ON u.task_id = t.id AND u.lease = t.lease AND t.state = 'completed'"""
VIEW = _VIEW.format(tasks="tasks AS t")
# few tasks may have a tag: it comes first
VIEW_OF_TAG = _VIEW.format(tasks="task_tags AS g JOIN tasks AS t ON t.id = g.task_id")
ENDS = """SELECT t.id, l.task_type, l.queue, t.state, t.attempts, t.finished_at, i.worker_id, d.data, r.body, r.run_ms,
    u.bytes, u.sha256, u.media_type,
    CASE WHEN t.state IN ('failed', 'cancelled') THEN
        (SELECT error FROM ended_leases WHERE task_id = t.id ORDER BY id DESC LIMIT 1) END, r.packed
    FROM tasks AS t JOIN lanes AS l ON l.id = t.lane_id JOIN task_data AS d ON d.task_id = t.id
    LEFT JOIN instances AS i ON i.id = t.lease_instance
    LEFT JOIN results AS r ON r.task_id = t.id
    LEFT JOIN uploads AS u ON u.task_id = t.id AND u.lease = t.lease AND t.state = 'completed'
    WHERE t.finished_at IS NOT NULL"""
# the newest ones, and the beginnings of their errors: a task that snoozes may have had thousands
ATTEMPTS = """SELECT * FROM (
    SELECT e.id, e.attempt, e.generation, e.how, e.charged, e.claimed_at, e.ended_at, substr(e.error, 1, 4096) AS error,
        i.worker_id FROM ended_leases AS e LEFT JOIN instances AS i ON i.id = e.instance WHERE e.task_id = {mark}
    ORDER BY e.id DESC LIMIT 200) AS newest ORDER BY id"""
WORKERS = """SELECT worker_id, instance_id IS NULL AS classic, seen_at, died_at, host, ordered, about,
    (SELECT count(*) FROM tasks WHERE lease_instance = instances.id AND lease_expires IS NOT NULL) AS leases
    FROM instances
    WHERE seen_at >= {mark} OR id IN (SELECT lease_instance FROM tasks WHERE lease_expires IS NOT NULL)
    ORDER BY worker_id, id"""
ACTIVE_OF_KEY = "FROM task_keys AS o WHERE o.queue = k.queue AND o.key = k.key AND o.status = 'active'"
KEY_OF = f"""SELECT k.key, (SELECT count(*) {ACTIVE_OF_KEY}),
    (SELECT count(*) {ACTIVE_OF_KEY}
        AND EXISTS (SELECT 1 FROM tasks AS t WHERE t.id = o.task_id AND t.state = 'pending')),
    coalesce((SELECT full_at FROM key_rates AS r WHERE r.queue = k.queue AND r.key = k.key), 0)
    FROM task_keys AS k WHERE k.task_id = {{mark}}"""
COUNTS = """SELECT queue, task_type, state, sum(n) FROM counts JOIN lanes ON id = lane_id
    GROUP BY queue, task_type, state"""


def by_state(rows: Iterator[tuple[str, str, str, Any]]) -> dict[tuple[str, str], dict[str, int]]:
    """The rows of COUNTS as the contract has them."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for queue, task_type, state, n in rows:
        found.setdefault((queue, task_type), {})[state] = int(n)
    return found


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A row of VIEW with its result as text, however it is stored."""
    packed = row.pop("packed")
    return row if packed is None else {**row, "result": unpack_text(packed)}


def fitting(rows: Iterator[dict[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    """The rows of VIEW, as many as fit, at least one."""
    return _as_many(map(unpacked, rows), lambda row: len(row["result"] or "") + len(row["data"]), max_bytes)


def ends(rows: Iterable[tuple[Any, ...]], max_bytes: int) -> list[EndedTask]:
    """The rows of ENDS, as many as fit, at least one."""
    return _as_many(map(_ended, rows), lambda task: len(task.result or "") + len(task.data), max_bytes)


def _ended(row: tuple[Any, ...]) -> EndedTask:
    task = EndedTask._make(row)
    return task if task.packed is None else task._replace(result=unpack_text(task.packed))


def _as_many(rows: Iterable[T], size_of: Callable[[T], int], max_bytes: int) -> list[T]:
    found: list[T] = []
    for row in rows:
        max_bytes -= size_of(row)
        if found and max_bytes < 0:
            break
        found.append(row)
    return found


def page(wanted: TaskFilter, after: int | None, mark: str) -> tuple[str, list[Any]]:
    """The statement of a filtered page, newest first, and its values but the limit; `mark` is how one is written."""
    view, task_id = (VIEW, "t.id") if wanted.tag is None else (VIEW_OF_TAG, "g.task_id")
    where, values = selected(wanted, mark, {f"{task_id} <": after, "g.tag =": wanted.tag})
    return f"{view} {where} ORDER BY {task_id} DESC LIMIT {mark}", values


def selected(wanted: TaskFilter, mark: str, more: Mapping[str, Any] | None = None) -> tuple[str, list[Any]]:
    """The WHERE clause of a filter ('' for all) without its tag, but with `more` comparisons, and its values."""
    clauses: list[str] = []
    values: list[Any] = []
    at = "coalesce(t.finished_at, t.created_at)"
    simple = {
        "t.state =": wanted.state and wanted.state.value,
        "l.queue =": wanted.queue,
        "l.task_type =": wanted.task_type,
        f"{at} <": wanted.before,
        f"{at} >=": wanted.since,
        **(more or {}),
    }
    for comparison, value in simple.items():
        if value is not None:
            clauses.append(f"{comparison} {mark}")
            values.append(value)
    for column, among in (("t.id", wanted.ids), ("t.state", wanted.states)):
        if among is not None:
            clauses.append(f"{column} IN ({', '.join([mark] * len(among))})" if among else "1 = 0")
            values.extend(one.value if isinstance(one, State) else one for one in among)
    return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), values
