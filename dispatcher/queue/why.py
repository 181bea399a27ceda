"""Why a task waits, in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.clock import moment
from dispatcher.model import KEYED, KeyUse, QueueSettings, Rate, State
from dispatcher.queue.blame import Blame
from dispatcher.queue.claim import Claim
from dispatcher.queue.living import Living, living
from dispatcher.queue.queue import Queue
from dispatcher.queue.turns import bucket_level
from dispatcher.store.base import Reader

PERIODS = {1000: "a second", 60_000: "a minute", 3_600_000: "an hour", 86_400_000: "a day"}
COUNTED = 1000  # so many tasks before it are counted, not more
Row = Mapping[str, Any]


def because(queue: Queue, row: Row) -> str | None:
    """What keeps a task from running, from its row as `Queue.task` gives it; None when it does not wait."""
    if row["status"] == State.BLOCKED:
        return "waits for other tasks to end"
    if row["status"] != State.PENDING:
        return None
    now = queue.now()
    if row["run_at"] > now.wall and not (row["ready"] or row["held"]):  # the clock may have gone back since
        return _not_due(row)
    asks = queue.asks.since(now.steady - queue.terms.silence_ms)
    since = now.wall - queue.terms.silence_ms
    with queue.store.read() as reader:
        around = living(asks, reader.workers(since), since)
        lacking = [] if around.strangers else _lacking(around, row, queue.blame)
        reasons = [*_limits(reader, row, now.steady), *lacking]
        return "; ".join(reasons) if reasons else _in_line(reader, row, around)


def _not_due(row: Row) -> str:
    if row["attempts"]:
        return (
            f"attempt {row['attempts']} of {row['max_attempts']} has ended, the next is due at {moment(row['run_at'])}"
        )
    return f"not due until {moment(row['run_at'])}"


def _limits(reader: Reader, row: Row, now: int) -> list[str]:
    name, reasons = row["queue"], []
    s = reader.queue_settings().get(name)
    if s is None:
        return []
    if s.paused:
        reasons.append(f"queue {name} is paused")
    if row["held"] and (use_of_key := reader.key_of(row["task_id"])):
        reasons += _limits_of_key(s, use_of_key, now)
    use = reader.queue_use(name)
    if s.max_running is not None and use.running >= s.max_running:
        reasons.append(f"queue limit: {use.running} of {s.max_running} tasks of queue {name} run")
    if s.rate_count is not None and s.rate_ms is not None and (level := bucket_level(s, use, now)) < s.rate_ms:
        wait = -(-(s.rate_ms - level) // s.rate_count)
        per = f"{s.rate_count} in {s.rate_ms / 1000:g} s"
        reasons.append(f"rate limit: queue {name} starts {per}, the next in {wait / 1000:g} s")
    return reasons


def _limits_of_key(s: QueueSettings, use: KeyUse, now: int) -> list[str]:
    reasons = []
    if s.key_running is not None and use.active >= s.key_running:
        reasons.append(f"key limit: {use.active} of {s.key_running} tasks with key {use.key} run or stand before it")
    if s.key_rate is not None and s.key_rate.left(use.full_at, now) <= use.ready:
        wait = max(0, s.key_rate.moment(use.full_at, use.ready + 1) - now) / 1000
        rest = f"{use.ready} before it" if use.ready else f"the next in {wait:g} s"
        reasons.append(f"limit of the key {use.key}: {_pace(s.key_rate)}, {rest}")
    return reasons


def _pace(rate: Rate) -> str:
    return f"{rate.starts} {PERIODS.get(rate.ms) or f'in {rate.ms / 1000:g} s'}"


def _lacking(around: Living, row: Row, blame: Blame) -> list[str]:
    able = [worker for worker in around.takers if _takes(worker, row)]
    if any(row["task_type"] not in blame.types(worker.worker_id) for worker in able):
        return []
    if able:
        return [f"every live worker for it is blamed for task type {row['task_type']}"]
    if any(_takes(worker, row) for worker in around.quiet):
        return ["every live worker for it is quiet, asleep or stops"]
    return [_missing([*around.takers, *around.quiet], row)]


def _missing(workers: Sequence[Claim], row: Row) -> str:
    """What no live worker has."""
    if not workers:
        return "no live worker"
    task_type, queue, labels = row["task_type"], row["queue"], needed(row)
    if not any(worker.task_types is None or task_type in worker.task_types for worker in workers):
        return f"no live worker for task type {task_type}"
    if not any(worker.queues is None or queue in worker.queues for worker in workers):
        return f"no live worker for queue {queue}"
    for label in labels:
        if not any(label in worker.labels for worker in workers):
            return f"no live worker with label {label}"
    return "no live worker has its task type, queue and labels together"


def _takes(ask: Claim, row: Row) -> bool:
    return (
        (ask.task_types is None or row["task_type"] in ask.task_types)
        and (ask.queues is None or row["queue"] in ask.queues)
        and ask.labels.issuperset(needed(row))
    )


def needed(row: Row) -> list[str]:
    """The labels that a task requires."""
    return [label for label in json.loads(row["requires"]) if label != KEYED]


def _in_line(reader: Reader, row: Row, around: Living) -> str:
    before = reader.before(row["task_id"], COUNTED)
    busy = not around.strangers and not any(_takes(one, row) and one.max_tasks > 0 for one in around.takers)
    place = f"{'more than ' if before == COUNTED else ''}{before} task{'s' if before != 1 else ''} before it"
    if before:
        return f"{place}; all workers for it are busy" if busy else place
    return "it is next; all workers for it are busy" if busy else "it is next"
