"""`taskmill cancel`, `retry`, `delete` and `edit`: steering tasks, by ids or by filter."""

import sys
from collections import Counter
from collections.abc import Mapping
from functools import wraps
from typing import Any, NamedTuple

import click

from cli import show
from cli.errors import DONE, FAILED, INTERRUPTED, USAGE, Failed
from cli.options import FILTERS, Function, asking, dispatcher, dry_run_option, examples, id_argument, taking
from client.client import Client
from client.control import Action, Changed
from common.submitting import EDIT

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


class Way(NamedTuple):
    """How an action is asked for and told."""

    dry_run: bool
    yes: bool
    as_json: bool


def steering(function: Function) -> Function:
    """What cancel, retry and delete take: ids or filters, and the way."""

    @wraps(function)
    def command(dry_run: bool, yes: bool, as_json: bool, **given: Any) -> Any:
        return function(way=Way(dry_run, yes, as_json), **given)

    yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    ids_argument = click.argument("ids", metavar="[ID...]", type=click.IntRange(1), nargs=-1)
    return taking(FILTERS)(ids_argument(dry_run_option(yes_option(asking(command)))))


@click.command(
    epilog=examples(
        "cancel 17 18", "cancel --queue reports --tag nightly --dry-run", "cancel --type mail --older-than 1d --yes"
    )
)
@steering
def cancel(fields: dict[str, Any], ids: tuple[int, ...], way: Way, url: str | None) -> int:
    """Cancel tasks: waiting ones at once, running ones are told to stop."""
    return _act("cancel", ids, fields, way, url)


@click.command(epilog=examples("retry 17", "retry --status failed --type resize --newer-than 2h"))
@steering
def retry(fields: dict[str, Any], ids: tuple[int, ...], way: Way, url: str | None) -> int:
    """Run ended tasks again. By filter what failed or was cancelled, unless --status says completed."""
    return _act("retry", ids, fields, way, url)


@click.command(epilog=examples("delete 17", "delete --status completed --older-than 30d --yes"))
@steering
def delete(fields: dict[str, Any], ids: tuple[int, ...], way: Way, url: str | None) -> int:
    """Delete ended tasks with their results."""
    return _act("delete", ids, fields, way, url)


@click.command(
    epilog=examples("edit 17 --priority 5 --delay 1h", "edit 17 --timeout none --backoff first=10s,factor=2,max=15m")
)
@taking(EDIT, none=True)
@id_argument
@asking
def edit(task_id: int, fields: dict[str, Any], as_json: bool, url: str | None) -> int:
    """Change a task that waits. `none` takes back a time limit, a memory limit or a backoff."""
    if not fields:
        raise Failed("nothing to change: name at least one option", USAGE)
    with dispatcher(url) as client:
        told = client.edit(task_id, **fields)
    if as_json:
        show.as_json(told)
    else:
        click.echo(f"task {task_id} was changed (generation {told['generation']})")
    return DONE


def _act(action: Action, ids: tuple[int, ...], filters: Mapping[str, Any], way: Way, url: str | None) -> int:
    if bool(ids) == bool(filters):
        raise Failed("name tasks either by their ids or by options like --status and --queue", USAGE)
    with dispatcher(url) as client:
        if way.dry_run:
            found = client.would_change(action, ids) if ids else client.bulk(action, dry_run=True, **filters)
            _tell_found(found, way)
            return DONE
        if ids:
            return _by_ids(client, action, ids, way)
        return _by_filter(client, action, filters, way)


def _by_ids(client: Client, action: Action, ids: tuple[int, ...], way: Way) -> int:
    methods = {"cancel": client.cancel, "retry": client.retry, "delete": client.delete}
    verdicts = methods[action](ids)
    left = [task_id for task_id, verdict in verdicts.items() if verdict not in GOOD]
    if way.as_json:
        show.as_json({"tasks": [{"task_id": task_id, "verdict": verdict} for task_id, verdict in verdicts.items()]})
    else:
        _tell(Counter(verdicts.values()))
    if left:
        click.echo(f"not changed: {', '.join(map(str, left[:20]))}{' …' if len(left) > 20 else ''}", err=True)
    return FAILED if left else DONE


def _by_filter(client: Client, action: Action, filters: Mapping[str, Any], way: Way) -> int:
    if not way.yes and not _sure(client, action, filters, way):
        return DONE
    total = Changed(0, 0, {}, [])
    try:
        for total in client.bulk_steps(action, **filters):
            if sys.stderr.isatty():
                click.echo(f"\r{total.changed:,} so far", err=True, nl=False)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            click.echo(err=True)
        raise Failed(f"interrupted; {total.changed:,} or more were changed", INTERRUPTED) from None
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    if way.as_json:
        show.as_json(total._asdict())
    else:
        _tell(total.verdicts)
    return DONE


def _sure(client: Client, action: Action, filters: Mapping[str, Any], way: Way) -> bool:
    """Say what would be changed and ask; False when there is nothing."""
    if way.as_json or not sys.stdin.isatty():
        raise Failed(f"say --yes to {action} them without being asked, or --dry-run to see them", USAGE)
    found = client.bulk(action, dry_run=True, **filters)
    _tell_found(found, way)
    if found.matched and not click.confirm(f"{action} them?"):
        raise Failed("nothing was changed")
    return bool(found.matched)


def _tell_found(found: Changed, way: Way) -> None:
    if way.as_json:
        show.as_json({"dry_run": True, "matched": found.matched, "sample_ids": found.sample_ids})
        return
    some = f" ({', '.join(map(str, found.sample_ids[:5]))}{' …' if found.matched > 5 else ''})"
    click.echo(f"{found.matched:,} tasks match{some if found.matched else ''}")


def _tell(verdicts: Mapping[str, int]) -> None:
    click.echo(", ".join(f"{n:,} {WORDS[verdict]}" for verdict, n in verdicts.items() if n) or "no task matches")
