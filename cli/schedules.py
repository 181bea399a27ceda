"""`taskmill schedules` and `taskmill schedule NAME set|pause|resume|run|delete`: recurring schedules."""

import json
from typing import Any

import click

from cli import show
from cli.errors import DONE, USAGE, Failed
from cli.options import alone, asking, dispatcher, dry_run_option, examples, name_of, named_group, taking
from client.client import Client
from client.errors import Rejected
from common.places import OPERATOR
from common.submitting import SCHEDULED, Option

COLUMNS = ("name", "when", "task", "next", "last task", "state")
WHEN = (
    Option("--cron", "cron", "'0 3 * * *'", "minute, hour, day of month, month, day of week"),
    Option("--zone", "zone", "Europe/Berlin", "where the clock of --cron stands (UTC)"),
    Option("--every", "every", "15m", "instead of --cron: a length of time"),
    Option(
        "--catch-up", "catch_up", "skip|once|all", "what becomes of ticks in a downtime (skip)",
        choices=("skip", "once", "all"),
    ),
)  # fmt: skip


@click.command(epilog=examples("schedules", "schedules --json"))
@asking
def schedules(as_json: bool, url: str | None) -> int:
    """Show the recurring schedules."""
    with dispatcher(url) as client:
        found = list(client.schedules())
    if as_json:
        show.as_json(found)
    elif not found:
        click.echo(f"no schedules; make one:  {OPERATOR} schedule NAME set --every 15m --type TYPE")
    else:
        show.table(COLUMNS, map(_row, found))
    return DONE


SET = (
    'schedule nightly set --cron "0 3 * * MON-FRI" --zone Europe/Berlin --type report',
    "schedule poll set --every 15m --type poll --unique-key poll --memory 512M",
    "schedule poll set --every 5m",
)


@named_group(*SET, "schedule nightly pause", "schedule nightly run")
def schedule(context: click.Context, name: str, as_json: bool, url: str | None) -> int:
    """Show, make, change or run a recurring schedule."""
    if alone(context, as_json, url):
        with dispatcher(url) as client:
            _tell(client.schedule(name), as_json)
    return DONE


@schedule.command("set", epilog=examples(*SET))
@taking((*WHEN, *SCHEDULED), none=True)
@dry_run_option
@asking
@click.pass_context
def set_(context: click.Context, fields: dict[str, Any], dry_run: bool, as_json: bool, url: str | None) -> int:
    """Make a schedule, or change it.

    A new one needs --cron or --every, and --type. Of one that exists only what is named becomes another; `none` takes
    back a time limit, a memory limit or a backoff of its task.
    """
    if not fields:
        raise Failed("say what to set: at least one option", USAGE)
    when = {option.field: fields.pop(option.field) for option in WHEN if option.field in fields}
    with dispatcher(url) as client:
        _tell(_set(client, name_of(context), when, fields, dry_run), as_json)
    return DONE


@schedule.command()
@asking
@click.pass_context
def pause(context: click.Context, as_json: bool, url: str | None) -> int:
    """Pause a schedule: it has no ticks until it is resumed."""
    return _change(context, as_json, url, paused=True)


@schedule.command()
@asking
@click.pass_context
def resume(context: click.Context, as_json: bool, url: str | None) -> int:
    """Resume a paused schedule; it counts anew from now."""
    return _change(context, as_json, url, paused=False)


@schedule.command()
@asking
@click.pass_context
def run(context: click.Context, as_json: bool, url: str | None) -> int:
    """Submit its task now, beside its ticks, paused or not."""
    name = name_of(context)
    with dispatcher(url) as client:
        task_id, created = client.run_schedule(name)
    if as_json:
        show.as_json({"task_id": task_id, "created": created})
    else:
        click.echo(f"{name}: task {task_id} {'submitted' if created else 'exists already with its unique_key'}")
    return DONE


@schedule.command()
@asking
@click.pass_context
def delete(context: click.Context, as_json: bool, url: str | None) -> int:
    """Delete a schedule; the tasks that it submitted stay."""
    name = name_of(context)
    with dispatcher(url) as client:
        client.delete_schedule(name)
    if as_json:
        show.as_json({"name": name, "deleted": True})
    else:
        click.echo(f"{name}: deleted")
    return DONE


def _change(context: click.Context, as_json: bool, url: str | None, **changes: Any) -> int:
    with dispatcher(url) as client:
        _tell(client.change_schedule(name_of(context), **changes), as_json)
    return DONE


def _set(client: Client, name: str, when: dict[str, Any], task: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    """What the dispatcher shows after that."""
    known = _known(client, name)
    if task:
        said = {**(known["task"] if known else {}), **task}
        task = {field: value for field, value in said.items() if value is not None}
    if known is None or dry_run:
        task = task or (known["task"] if known else {})
        if "task_type" not in task:
            raise Failed("--type is missing: what is submitted at each tick", USAGE)
        return client.create_schedule(name, task, dry_run=dry_run, **_timing(known, when))
    return client.change_schedule(name, **when, **({"task": task} if task else {}))


def _known(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return client.schedule(name)
    except Rejected as error:
        if error.code == "not_found":
            return None
        raise


def _timing(known: dict[str, Any] | None, when: dict[str, Any]) -> dict[str, Any]:
    """When it ticks: what is said, and of what there is what that leaves."""
    if known is None:
        return when
    replaced = {"cron": ("every",), "every": ("cron", "zone")}
    gone = {field for said in when for field in replaced.get(said, ())}
    return {field: known[field] for field in ("cron", "zone", "every", "catch_up") if field not in gone} | when


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    state = one["last_error"] or ("paused" if one["paused"] else "on")
    return one["name"], one["in_words"], one["task"]["task_type"], one["next_at"], one["last_task_id"], state


def _tell(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(one)
        return
    task = {name: value for name, value in one["task"].items() if name != "task_type"}
    click.echo(f"{one['name']}: {one['in_words']}" + (", paused" if one["paused"] else ""))
    click.echo(f"  task      {one['task']['task_type']} {json.dumps(task, ensure_ascii=False)}")
    click.echo(f"  catch-up  {one['catch_up']}")
    if one["last_at"]:
        click.echo(f"  last      {one['last_at']}, task {one['last_task_id']}")
    if one["last_error"]:
        click.echo(f"  refused   {one['last_error']}")
    if skipped := one.get("last_skipped"):
        click.echo(f"  skipped   from {skipped['from']} until before {skipped['until']}: {skipped['why']}")
    for tick in one["next_ticks"]:
        click.echo(f"  next      {tick['in_words']}")
