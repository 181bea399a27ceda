"""`taskmill cancel`, `retry`, `delete` and `edit`: steering tasks, by ids or by filter."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.errors import DONE, FAILED, USAGE, Failed
from cli.selecting import DryRun, Ids, NewerThan, OlderThan, Queue, Status, Tag, TaskType, Yes, dispatcher
from client.client import Client
from client.control import Action, Changed
from common.durations import parse_duration

GOOD = frozenset({"cancelled", "cancel_requested", "already_final", "retried", "deleted"})
WORDS = {
    "cancelled": "cancelled",
    "cancel_requested": "told to stop (running)",
    "already_final": "ended already",
    "retried": "run again",
    "deleted": "deleted",
    "not_final": "left alone (not ended)",
    "not_unique": "left alone (another unfinished task holds the unique_key)",
    "not_found": "not found",
}


def cancel(
    ids: Ids = None, status: Status = None, queue: Queue = None, task_type: TaskType = None, tag: Tag = None,
    older_than: OlderThan = None, newer_than: NewerThan = None, dry_run: DryRun = False, yes: Yes = False,
) -> int:  # fmt: skip
    """Cancel tasks: waiting ones at once, running ones are told to stop."""
    return _act("cancel", ids, _filters(status, queue, task_type, tag, older_than, newer_than), dry_run, yes)


def retry(
    ids: Ids = None, status: Status = None, queue: Queue = None, task_type: TaskType = None, tag: Tag = None,
    older_than: OlderThan = None, newer_than: NewerThan = None, dry_run: DryRun = False, yes: Yes = False,
) -> int:  # fmt: skip
    """Run ended tasks again: by filter what failed or was cancelled, unless --status says completed."""
    return _act("retry", ids, _filters(status, queue, task_type, tag, older_than, newer_than), dry_run, yes)


def delete(
    ids: Ids = None, status: Status = None, queue: Queue = None, task_type: TaskType = None, tag: Tag = None,
    older_than: OlderThan = None, newer_than: NewerThan = None, dry_run: DryRun = False, yes: Yes = False,
) -> int:  # fmt: skip
    """Delete ended tasks with their results."""
    return _act("delete", ids, _filters(status, queue, task_type, tag, older_than, newer_than), dry_run, yes)


def edit(
    task_id: Annotated[int, typer.Argument(min=1, help="The task; it must wait.", metavar="ID")],
    data: Annotated[str | None, typer.Option(help="New task data, a JSON object.")] = None,
    queue: Annotated[str | None, typer.Option(help="Another queue.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher comes first.")] = None,
    run_at: Annotated[str | None, typer.Option(help="Not before: 2026-11-22T09:00:00Z.")] = None,
    delay: Annotated[str | None, typer.Option(help="Not before that long from now: 90s, 1h30m.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="How often it is tried.")] = None,
    timeout: Annotated[str | None, typer.Option(help="The longest one attempt may run: 90s; none: no limit.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All its tags (repeat the option).")] = None,
) -> int:
    """Change a task that waits."""
    named = {
        "task_data": None if data is None else _data(data), "queue": queue, "priority": priority, "run_at": run_at,
        "delay_seconds": None if delay is None else parse_duration(delay), "max_attempts": max_attempts,
        "tags": tag or None,
    }  # fmt: skip
    changes = {name: value for name, value in named.items() if value is not None}
    if timeout is not None:
        changes["timeout_seconds"] = None if timeout == "none" else parse_duration(timeout)
    if not changes:
        raise Failed("nothing to change: name at least one option", USAGE)
    with dispatcher() as client:
        told = client.edit(task_id, **changes)
    typer.echo(f"task {task_id} was changed (generation {told['generation']})")
    return DONE


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failed(f"--data is not JSON: {error}", USAGE) from None


def _filters(status: Any, queue: Any, task_type: Any, tag: Any, older: str | None, newer: str | None) -> dict[str, Any]:
    ages = {"older_than_seconds": older, "newer_than_seconds": newer}
    named = {"status": status and status.value, "queue": queue, "task_type": task_type, "tag": tag}
    named |= {name: None if text is None else parse_duration(text) for name, text in ages.items()}
    return {name: value for name, value in named.items() if value is not None}


def _act(action: Action, ids: list[int] | None, filters: Mapping[str, Any], dry_run: bool, yes: bool) -> int:
    if bool(ids) == bool(filters):
        raise Failed("name tasks either by their ids or by options like --status and --queue", USAGE)
    with dispatcher() as client:
        if ids:
            return _by_ids(client, action, ids, dry_run)
        return _by_filter(client, action, filters, dry_run, yes)


def _by_ids(client: Client, action: Action, ids: list[int], dry_run: bool) -> int:
    if dry_run:
        raise Failed("--dry-run is for options like --status; ids name exactly what is changed", USAGE)
    methods = {"cancel": client.cancel, "retry": client.retry, "delete": client.delete}
    verdicts = methods[action](ids)
    _tell(Counter(verdicts.values()))
    left = [str(task_id) for task_id, verdict in verdicts.items() if verdict not in GOOD]
    if left:
        typer.echo(f"not changed: {', '.join(left[:20])}{' …' if len(left) > 20 else ''}", err=True)
    return FAILED if left else DONE


def _by_filter(client: Client, action: Action, filters: Mapping[str, Any], dry_run: bool, yes: bool) -> int:
    if dry_run or not yes:
        found = client.bulk(action, dry_run=True, **filters)
        some = f" ({', '.join(map(str, found.sample_ids[:5]))}{' …' if found.matched > 5 else ''})"
        typer.echo(f"{found.matched:,} tasks match{some if found.matched else ''}")
        if dry_run or not found.matched:
            return DONE
        if not sys.stdin.isatty():
            raise Failed(f"say --yes to {action} them without being asked", USAGE)
        if not typer.confirm(f"{action} them?"):
            raise Failed("nothing was changed")
    total = Changed(0, 0, {}, [])
    for total in client.bulk_steps(action, **filters):
        if sys.stderr.isatty():
            typer.echo(f"\r{total.changed:,} so far", err=True, nl=False)
    if sys.stderr.isatty():
        typer.echo("\r\033[K", err=True, nl=False)
    _tell(total.verdicts)
    return DONE


def _tell(verdicts: Mapping[str, int]) -> None:
    typer.echo(", ".join(f"{n:,} {WORDS[verdict]}" for verdict, n in verdicts.items() if n) or "no task matches")
