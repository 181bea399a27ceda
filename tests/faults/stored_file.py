"""What must hold in the dispatcher's file when everything has stopped; opened to be read only."""

from pathlib import Path

import apsw

ORPHANS = {
    "data without a task": "SELECT count(*) FROM task_data WHERE task_id NOT IN (SELECT id FROM tasks)",
    "a task without data": "SELECT count(*) FROM tasks WHERE id NOT IN (SELECT task_id FROM task_data)",
    "tags without a task": "SELECT count(*) FROM task_tags WHERE task_id NOT IN (SELECT id FROM tasks)",
    "progress without a task": "SELECT count(*) FROM progress WHERE task_id NOT IN (SELECT id FROM tasks)",
    "a key without a task": "SELECT count(*) FROM idempotency_keys WHERE task_id NOT IN (SELECT id FROM tasks)",
    "an ended lease without a task": "SELECT count(*) FROM ended_leases WHERE task_id NOT IN (SELECT id FROM tasks)",
    "a lease without an instance": "SELECT count(*) FROM tasks WHERE lease_instance NOT IN (SELECT id FROM instances)",
    "a result without its task completed": """SELECT count(*) FROM results
        WHERE task_id NOT IN (SELECT id FROM tasks WHERE state = 'completed')""",
    "a completed task without a result": """SELECT count(*) FROM tasks
        WHERE state = 'completed' AND id NOT IN (SELECT task_id FROM results)""",
    "a result without its body": """SELECT count(*) FROM results r JOIN tasks t ON t.id = r.task_id
        WHERE r.body IS NULL AND NOT EXISTS (SELECT 1 FROM uploads WHERE task_id = t.id AND lease = t.lease)""",
    "an upload without a task": "SELECT count(*) FROM uploads WHERE task_id NOT IN (SELECT id FROM tasks)",
    "parts without a task": "SELECT count(*) FROM upload_parts WHERE task_id NOT IN (SELECT id FROM tasks)",
    "two successes of a task": """SELECT count(*) FROM (SELECT 1 FROM ended_leases WHERE how = 'completed'
        GROUP BY task_id, generation HAVING count(*) > 1)""",
    "more attempts charged than counted": """SELECT count(*) FROM tasks t WHERE t.attempts <
        (SELECT count(*) FROM ended_leases e WHERE e.task_id = t.id AND e.generation = t.generation AND e.charged)""",
    "a live lease": "SELECT count(*) FROM tasks WHERE state = 'in_progress'",
}


def problems(path: Path) -> list[str]:
    """What does not hold."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.execute("PRAGMA query_only = ON")
        found = [f"integrity: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"{name}: {n}" for name, sql in ORPHANS.items() if (n := db.execute(sql).get)]
        return found + _miscounted(db)
    finally:
        db.close()


def _miscounted(db: apsw.Connection) -> list[str]:
    kept = {(row[0], row[1]): row[2] for row in db.execute("SELECT lane_id, state, n FROM counts WHERE n != 0")}
    sql = """SELECT lane_id, state, count(*) FROM tasks GROUP BY 1, 2
             UNION ALL SELECT lane_id, 'ready', count(*) FROM tasks WHERE ready GROUP BY 1"""
    counted = {(row[0], row[1]): row[2] for row in db.execute(sql)}
    return [] if kept == counted else [f"I10: counts are {kept}, the tasks are {counted}"]
