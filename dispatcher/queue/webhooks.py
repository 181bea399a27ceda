"""Webhooks: what is told of a task's end, to whom, and how often it is tried (docs/webhooks.md).

A delivery is stored in the very transaction in which its task ends, so that none is lost and none is made up. Whoever
takes one holds it for a while; when he dies, it is due again: told at least once, always under the same delivery id.
"""

import json
import random
import secrets
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from dispatcher.clock import moment
from dispatcher.model import FINAL, TaskRow
from dispatcher.queue import options
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx
from dispatcher.store.webhooks import Hook as Hook

HOLD_MS = 60_000  # longer than one try can take
WAITS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800)  # before the second try, the third, …: some 16 hours
JITTER = 0.2


def note(tx: Tx, terms: Terms, ids: Iterable[int]) -> None:
    """Store what is to be told of tasks that this transaction brought to an end; called at its end, or before one of
    them goes."""
    rows = {task_id: row for task_id, row in tx.tasks(list(set(ids))).items() if row.state in FINAL}
    urls = {task_id: wanted.webhook or terms.webhook_url for task_id, wanted in options.of(tx, list(rows)).items()}
    tx.add_hooks([_hook(tx, rows[task_id], url) for task_id, url in sorted(urls.items()) if url])


def _hook(tx: Tx, row: TaskRow, url: str) -> Hook:
    lane = tx.lane_of(row.lane_id)
    data = {
        "task_id": row.id,
        "task_type": lane.task_type,
        "queue": lane.queue,
        "status": row.state.value,
        "attempts": row.attempts,
        "generation": row.generation,
    }
    said = {"type": f"task.{row.state.value}", "timestamp": moment(row.finished_at or tx.now.wall), "data": data}
    return Hook(f"msg_{secrets.token_hex(16)}", row.id, url, json.dumps(said), 0, tx.now.wall, _host(url))


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def take(tx: Tx, limit: int, spared: Collection[str], since: int) -> list[Hook]:
    """Deliveries to be tried now; nobody else tries them for a while."""
    return tx.take_hooks(limit, tx.now.wall + HOLD_MS, spared, since)


def settle(tx: Tx, hook: Hook, delivered: bool) -> str:
    """What became of a try: `delivered`, `put_off`, `given_up`, or `overtaken` by another try."""
    if delivered or hook.tries > len(WAITS_S):
        gone = tx.drop_hook(hook)
        return ("delivered" if delivered else "given_up") if gone else "overtaken"
    wait = WAITS_S[hook.tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  jitter, not a secret
    return "put_off" if tx.put_off_hook(hook, tx.now.wall + int(wait * 1000)) else "overtaken"
