"""What must hold in the PostgreSQL of a farm when everything has stopped: the same as in a file (`stored_file.py`)."""

from typing import Any

import psycopg
from stored_file import ORPHANS

OWN = {
    "in progress without an expiry": """SELECT count(*) FROM tasks
        WHERE (state = 'in_progress') != (lease_expires IS NOT NULL)""",
    "two results of a task": "SELECT count(*) - count(DISTINCT task_id) FROM results",
    "two keys of a task": "SELECT count(*) - count(DISTINCT task_id) FROM idempotency_keys",
    "a lease that ended twice": "SELECT count(*) - count(DISTINCT lease) FROM ended_leases",
    "a live lease that has ended": """SELECT count(*) FROM tasks AS t JOIN ended_leases AS e
        ON e.task_id = t.id AND e.lease = t.lease WHERE e.how != 'completed'""",
}
SEEN = "SELECT count(*), sum(id) FROM tasks WHERE id > 0 AND finished_at IS NOT NULL"
COUNTS = "SELECT lane_id, state, sum(n)::bigint FROM counts GROUP BY 1, 2 HAVING sum(n) != 0"
RECOUNT = """SELECT lane_id, state, count(*) FROM tasks GROUP BY 1, 2
    UNION ALL SELECT lane_id, 'ready', count(*) FROM tasks WHERE ready GROUP BY 1"""


def problems(url: str) -> list[str]:
    """What does not hold."""
    with psycopg.connect(url) as db:
        db.read_only = True
        checks = {**ORPHANS, **OWN}
        found = [f"{name}: {n}" for name, sql in checks.items() if (n := _one(db, sql))]
        return found + _miscounted(db) + _misindexed(db)


def _one(db: psycopg.Connection, sql: str) -> int:
    row = db.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def _miscounted(db: psycopg.Connection) -> list[str]:
    kept, counted = _by_lane(db, COUNTS), _by_lane(db, RECOUNT)
    return [] if kept == counted else [f"I10: counts are {kept}, the tasks are {counted}"]


def _misindexed(db: psycopg.Connection) -> list[str]:
    """Whether indexes and table have the same rows."""
    ways = (
        "enable_seqscan = off",
        "enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off",
    )
    seen = []
    for way in ways:
        db.execute(f"RESET ALL; SET {way}")
        seen.append(db.execute(SEEN).fetchone())
    return [] if seen[0] == seen[1] else [f"by index {seen[0]}, by table {seen[1]}"]


def _by_lane(db: psycopg.Connection, sql: str) -> dict[tuple[int, str], Any]:
    return {(lane_id, state): n for lane_id, state, n in db.execute(sql).fetchall()}
