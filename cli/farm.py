"""The farm as one screen: what is asked of a dispatcher, and how it is shown."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cli import show
from cli.errors import FAILED, Failed
from cli.options import STATES
from cli.show import Coloured, span
from client.client import Client
from common.printing import one_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

SHOWN = 20  # workers and queues; the commands of their own show all
RUNNING = 200  # tasks that are asked for
NOTE = 40  # letters of a task's note
WORDS = {"active": "green", "idle": "green", "waiting": "yellow", "asleep": "yellow", "inoperable": "bold red"}
ENDED = ("completed", "failed", "cancelled")
TIMES = ("wait_seconds", "run_seconds")
OF_WORKERS = ("worker", "status", "told to", "tasks", "slots", "host", "load")
OF_QUEUES = ("queue", "state", "waiting", "ready", "running")
OF_TASKS = ("worker", "task", "type", "queue", "progress", "note")


class Seen(NamedTuple):
    """What a dispatcher said; `running` is None where nobody asked for the tasks that run."""

    stats: dict[str, Any]
    queues: list[dict[str, Any]]
    running: list[dict[str, Any]] | None

    @property
    def word(self) -> str:
        """The whole farm in one word."""
        return str(self.stats["farm"]["word"])

    @property
    def tasks(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return {state: self.stats[f"{state}_tasks"] for state in STATES}

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        rest = ("farm", "ready_tasks", "oldest_waiting_seconds", *TIMES, "workers")
        told = {"tasks": self.tasks, **{name: self.stats[name] for name in rest}, "queues": self.queues}
        return told if self.running is None else {**told, "running": self.running}


def look(client: Client, running: bool) -> Seen:
    """Ask once; of very many running tasks some."""
    stats = client.stats()
    if "farm" not in stats:
        raise Failed(f"{client.url} is a dispatcher of an older version, which does not say this: upgrade it", FAILED)
    found = list(islice(client.tasks(status="in_progress", limit=RUNNING), RUNNING)) if running else None
    return Seen(stats, client.queues(), found)


def screen(seen: Seen, trouble: str = "") -> "Group":
    """All of it, to be shown."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [show.record_of(_figures(seen))]
    if trouble:
        parts.append(Text(one_line(trouble), style="bold red"))
    alive_first = sorted(seen.stats["workers"], key=lambda one: (one["status"] != "alive", one["worker_id"]))
    parts += _part(OF_WORKERS, [_worker(one) for one in alive_first], "workers")
    parts += _part(OF_QUEUES, [_queue(one) for one in seen.queues], "queues")
    if seen.running is not None:
        by_worker = sorted(seen.running, key=lambda one: (one["assigned_to"] or "", one["task_id"]))
        parts += _part(OF_TASKS, [_task(one) for one in by_worker], "running tasks")
    return Group(*parts)


def _figures(seen: Seen) -> Iterator[tuple[str, object]]:
    farm, oldest = seen.stats["farm"], seen.stats["oldest_waiting_seconds"]
    yield "farm", Coloured(f"{seen.word}: {farm['why']}", WORDS.get(seen.word, ""))
    yield "oldest waiting", None if oldest is None else span(oldest)
    yield "throughput", f"{farm['finished_per_second']:,.4g} tasks/s"
    share = farm["failed_share"]
    yield "failed attempts", None if share is None else f"{share:.1%} (5 min)"
    yield "time in line", _times(seen.stats["wait_seconds"])
    yield "time to run", _times(seen.stats["run_seconds"])
    yield "tasks", ", ".join(f"{n:,} {state}" for state, n in seen.tasks.items() if n or state in ENDED)
    yield "workers", f"{farm['able_workers']} take tasks"


def _times(told: Mapping[str, float | None]) -> str | None:
    if told["p50"] is None:
        return None
    return ", ".join(f"{name} {milliseconds(told[name])}" for name in ("p50", "p99"))


def milliseconds(seconds: float | None) -> str:
    """`3.2 ms`, from a second on `1.2 s`."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"


def _part(headings: Sequence[str], rows: Sequence[Sequence[object]], what: str) -> "list[RenderableType]":
    if not rows:
        return ["", f"no {what}"]
    shown: list[RenderableType] = ["", show.table_of(headings, rows[:SHOWN])]
    return [*shown, f"… {len(rows) - SHOWN:,} more {what}"] if len(rows) > SHOWN else shown


def _worker(one: Mapping[str, Any]) -> tuple[object, ...]:
    host = one["metadata"]
    status = Coloured(one["status"], "green" if one["status"] == "alive" else "red")
    told_to = Coloured(one["state"], "" if one["state"] == "run" else "yellow")
    load = f"{host['load']} of {host.get('cpus', '?')}" if "load" in host else None
    where = one_line(str(host.get("hostname", "")))
    return one["worker_id"], status, told_to, one["leases"], one.get("concurrency"), where, load


def _queue(one: Mapping[str, Any]) -> tuple[object, ...]:
    state = Coloured("paused", "yellow") if one["paused"] else "runs"
    return one["queue"], state, one["pending"], one["ready"], one["running"]


def _task(one: Mapping[str, Any]) -> tuple[object, ...]:
    note = one_line(one["note"] or "")[:NOTE]
    return one["assigned_to"], one["task_id"], one["task_type"], one["queue"], _progress(one["progress"]), note


def _progress(told: Mapping[str, Any] | None) -> str | None:
    """`37 %`, or how much is done where nobody knows of how much."""
    if told is None:
        return None
    return f"{told['done'] / told['total']:.0%}" if told["total"] else f"{told['done']:,.15g}"
