"""How things look on the wire: envelopes, times, tasks. Stored JSON text is spliced in, not parsed again."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from common import json_profile
from dispatcher.clock import moment
from dispatcher.model import KEYED, EndedTask, Granted, Lane, Output, State
from dispatcher.queue import options
from dispatcher.queue.claim import Claimed

JSON: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})
SAME = ["task_id", "task_type", "queue", "status", "priority", "attempts", "max_attempts", "generation", "assigned_to"]


class Reply(NamedTuple):
    """What a view answers with; Flask takes it as it is, and where Flask is left out it is soon written."""

    text: str
    status: int = 200
    headers: Mapping[str, str] = JSON


def envelope(data: str, status: int = 200, message: str | None = None) -> Reply:
    """A success whose `data` is JSON text."""
    note = f'"message":{json_profile.encode(message)},' if message else ""
    return Reply(f'{{"status":"success",{note}"data":{data}}}', status)


def success(data: Mapping[str, Any], status: int = 200, message: str | None = None) -> Reply:
    """A success."""
    return envelope(json_profile.encode(data), status, message)


def plain(body: Mapping[str, Any], status: int = 200) -> Reply:
    """A classic reply without envelope."""
    return Reply(json_profile.encode(body), status)


def seconds(ms: int | None) -> float | None:
    """Milliseconds as seconds."""
    return None if ms is None else ms / 1000


def claimed(answer: Claimed, store_id: str, brief: bool) -> str:
    """The data of a claim, as JSON text."""
    head = {"store_id": store_id, "provisional": answer.provisional, "orders": answer.orders.as_dict()}
    tasks = _briefly(answer.tasks) if brief else f'"tasks":[{",".join(map(_granted, answer.tasks))}]'
    return f"{json_profile.encode(head)[:-1]},{tasks}}}"


def _briefly(granted: Sequence[Granted]) -> str:
    """Most tasks as arrays: id, lease_id, which terms, data. The terms that they have in common are said once."""
    terms: dict[str, int] = {}
    told = []
    for task in granted:
        if task.checkpoint is None and task.options is None:
            place = terms.setdefault(_terms_of(task), len(terms))
            told.append(f'[{task.task_id},"{task.task_id}-{task.token:016x}",{place},{task.data}]')
        else:
            told.append(_granted(task))
    return f'"terms":[{",".join([f"{{{text}}}" for text in terms])}],"tasks":[{",".join(told)}]'


def _terms_of(task: Granted) -> str:
    return _terms(task.lane, task.attempt, task.max_attempts, task.length, task.timeout_ms)


def _granted(task: Granted) -> str:
    terms = _terms_of(task)
    checkpoint = f',"checkpoint":{task.checkpoint}' if task.checkpoint is not None else ""
    options = f',"options":{task.options}' if task.options is not None else ""
    return (
        f'{{"task_id":{task.task_id},"lease_id":"{task.task_id}-{task.token:016x}",{terms},'
        f'"task_data":{task.data}{checkpoint}{options}}}'
    )


@lru_cache(1024)
def _terms(lane: Lane, attempt: int, max_attempts: int, length: int, timeout_ms: int | None) -> str:
    """What the tasks of a claim have in common, nearly always, as JSON text without its braces."""
    told = {
        "task_type": lane.task_type, "queue": lane.queue, "attempt": attempt, "max_attempts": max_attempts,
        "lease_seconds": length / 1000, "timeout_seconds": seconds(timeout_ms),
    }  # fmt: skip
    return json_profile.encode(told)[1:-1]


def task(row: Mapping[str, Any], output: Output | None = None) -> str:
    """One task with everything, as JSON text; fields of a result object stand at the top level too."""
    own = {**_own(row), "attempts_log": [_attempt(ended) for ended in row["ended"]]}
    own["waiting_because"] = row.get("waiting_because")
    own |= json.loads(row["options"]) if row["options"] else {}
    result = json.loads(row["result"]) if row["result"] is not None else None
    taken = own.keys() | options.NAMES | {"task_data", "result", "result_ref", "partial"}
    extra = {key: value for key, value in result.items() if key not in taken} if isinstance(result, dict) else {}
    partial = f',"partial":{output.partial}' if output is not None and output.partial is not None else ""
    return _spliced({**extra, **own}, row, partial)


def tasks(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of tasks, as JSON text."""
    return f"[{','.join(_spliced(_own(row), row) for row in rows)}]"


def all_ended(tasks: Sequence[EndedTask], brief: bool) -> str:
    """What tasks ended in, as a JSON list; briefly most as arrays: id, which terms, milliseconds, data, result."""
    if not brief:
        return f'"tasks":[{",".join(map(ended, tasks))}]'
    terms: dict[tuple[Any, ...], int] = {}
    told = []
    for task in tasks:
        if task.result is not None and task.run_ms is not None and task.error is None:
            place = terms.setdefault(task[1:7], len(terms))
            told.append(f"[{task.task_id},{place},{task.run_ms},{task.data},{task.result}]")
        else:
            told.append(ended(task))
    return f'"terms":{json_profile.encode([_end(*one) for one in terms])},"tasks":[{",".join(told)}]'


def _end(kind: str, queue: str, state: str, attempts: int, at: int, worker: str | None) -> dict[str, Any]:
    """What the tasks that one report ended have in common, nearly always."""
    told = {"task_type": kind, "queue": queue, "status": state, "attempts": attempts, "assigned_to": worker}
    return {**told, "finished_at": moment(at)}


def ended(task: EndedTask) -> str:
    """What one task ended in, as JSON text; those who wait for thousands need no more."""
    task_id, kind, queue, state, attempts, at, worker, data, result, run_ms, size, sha256, media_type, error, _ = task
    more = "" if result is None else f',"result":{result}'
    if error is not None or sha256 is not None:
        ref = None if sha256 is None else {"bytes": size, "sha256": sha256, "media_type": media_type}
        more += f',"error":{json_profile.encode(error)},"result_ref":{json_profile.encode(ref)}'
    by = "null" if worker is None else f'"{worker}"'
    seconds = "null" if run_ms is None else repr(run_ms / 1000)
    return (
        f'{{"task_id":{task_id},"task_type":"{kind}","queue":"{queue}","status":"{state}","attempts":{attempts},'
        f'"assigned_to":{by},"finished_at":"{moment(at)}","run_seconds":{seconds},"task_data":{data}{more}}}'
    )


def _result_ref(row: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if row["sha256"] is None else {name: row[name] for name in ("bytes", "sha256", "media_type")}


def _spliced(own: Mapping[str, Any], row: Mapping[str, Any], more: str = "") -> str:
    result = f',"result":{row["result"]}' if row["result"] is not None else ""
    return f'{json_profile.encode(own)[:-1]},"task_data":{row["data"]}{more}{result}}}'


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in SAME}
    shown["tags"] = json.loads(row["tags"]) if row["tags"] else []
    shown["requires"] = [label for label in json.loads(row["requires"]) if label != KEYED]
    shown["key"] = row["limit_key"]
    shown.update({name: moment(row[name]) for name in ("created_at", "run_at", "started_at", "finished_at")})
    shown["timeout_seconds"], shown["run_seconds"] = seconds(row["timeout_ms"]), seconds(row["run_ms"])
    shown["cancel_requested"] = row["cancel_requested_at"] is not None
    # the last that a heartbeat brought: of a completed task no longer true
    told = row["done"] is not None and row["status"] != State.COMPLETED
    shown["progress"] = {"done": row["done"], "total": row["total"]} if told else None
    shown["note"] = None if row["status"] == State.COMPLETED else row["note"]
    shown["error"] = row["error"]
    if row["sha256"] is not None:
        shown["result_ref"] = _result_ref(row)
    return shown


def _attempt(ended: Mapping[str, Any]) -> dict[str, Any]:
    same = {name: ended[name] for name in ("attempt", "generation", "worker_id", "error")}
    times = {"started_at": moment(ended["claimed_at"]), "ended_at": moment(ended["ended_at"])}
    return {**same, **times, "outcome": ended["how"], "counted": bool(ended["charged"])}
