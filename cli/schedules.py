"""`taskmill schedules`, `schedule`, `unschedule`: recurring schedules, asked of the running dispatcher."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.errors import FAILED, USAGE, Failed
from client.client import Client
from client.errors import Rejected
from common import json_profile
from common.durations import parse_duration

PATIENCE_S = 2.0
COLUMNS = ("name", "when", "task", "next", "last task", "state")
Url = Annotated[str | None, typer.Option(help="The dispatcher (setting DISPATCHER_URL).", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Zone = Annotated[str | None, typer.Option(help="Of cron, like Europe/Berlin (else UTC).", show_default=False)]
UniqueKey = Annotated[
    str | None, typer.Option("--unique-key", help="None while one with this key is unfinished.", show_default=False)
]
CatchUp = Annotated[str | None, typer.Option(help="Ticks missed in a downtime: skip, once or all.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The schedule's name.", show_default=False)]


def schedules(json_: AsJson = False, url: Url = None) -> None:
    """Show the recurring schedules."""
    with _client(url) as client:
        found = list(client.schedules())
    if json_:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        typer.echo("no schedules; make one:  ./taskmill schedule NAME --every 15m --type TYPE")
    else:
        _show_all([_row(schedule) for schedule in found])


def unschedule(name: Name, url: Url = None) -> None:
    """Delete a schedule; the tasks that it submitted stay."""
    with _client(url) as client:
        client.delete_schedule(name)
    typer.echo(f"{name}: deleted")


def schedule(  # one option for each thing that can be said
    name: Name,
    cron: Annotated[str | None, typer.Option(help="Like '0 3 * * MON-FRI'.", show_default=False)] = None,
    zone: Zone = None,
    every: Annotated[str | None, typer.Option(help="Instead of cron, like 15m.", show_default=False)] = None,
    type_: Annotated[str | None, typer.Option("--type", help="The task's type.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="Its data, a JSON object.", show_default=False)] = None,
    queue: Annotated[str | None, typer.Option(help="Its queue.", show_default=False)] = None,
    priority: Annotated[int | None, typer.Option(help="Its priority.", show_default=False)] = None,
    max_attempts: Annotated[int | None, typer.Option(help="How often it is tried.", show_default=False)] = None,
    timeout: Annotated[str | None, typer.Option(help="Its longest run, like 90s.", show_default=False)] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.", show_default=False)] = None,
    unique: UniqueKey = None,
    catch_up: CatchUp = None,
    pause: Annotated[bool | None, typer.Option("--pause/--resume", help="Fire nothing; go on.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Submit its task now.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do, store nothing.")] = False,
    json_: AsJson = False,
    url: Url = None,
) -> None:
    """Make a schedule, change it, or show it and its next ticks.

    A new one needs --cron or --every, and --type. Of one that exists only what is said here becomes another; of its
    task, all: say the whole task again.
    """
    task = _task(
        task_type=type_, task_data=_object(data), queue=queue, priority=priority, max_attempts=max_attempts,
        timeout_seconds=None if timeout is None else parse_duration(timeout), tags=tags, unique_key=unique,
    )  # fmt: skip
    said = {"cron": cron, "zone": zone, "every": every, "catch_up": catch_up, "paused": pause, "task": task}
    said = {field: value for field, value in said.items() if value is not None}
    with _client(url) as client:
        if run:
            _only_run(said)
            typer.echo(f"{name}: task {client.run_schedule(name).task_id} submitted")
            return
        shown = _say(client, name, said, dry_run)
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False)) if json_ else _show(shown)


def _only_run(said: dict[str, Any]) -> None:
    if said:
        raise Failed("--run submits the task as it is: say nothing else with it", USAGE)


def _say(client: Client, name: str, said: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    """What the dispatcher shows after that."""
    known = _known(client, name)
    if not said and not dry_run:
        if known is None:
            raise Failed(f"there is no schedule {name}: make it with --cron or --every, and --type", FAILED)
        return known
    if known is None or dry_run:
        _has_task(said)
        return client.create_schedule(name, said.pop("task"), dry_run=dry_run, **said)
    return client.change_schedule(name, **said)


def _has_task(said: dict[str, Any]) -> None:
    if "task" not in said:
        raise Failed("--type is missing: what is submitted at each tick", USAGE)


def _known(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return client.schedule(name)
    except Rejected as error:
        if error.code == "not_found":
            return None
        raise


def _task(**fields: Any) -> dict[str, Any] | None:
    """The task as it was said; None when nothing was. Raises Failed when only its type was not."""
    said = {name: value for name, value in fields.items() if value not in (None, [])}
    if said and "task_type" not in said:
        raise Failed("--type is missing: a schedule's task is said as a whole", USAGE)
    return said or None


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json_profile.parse(text.encode())
    except json_profile.JsonError as error:
        raise Failed(f"--data: {error}", USAGE) from None
    if not isinstance(value, dict):
        raise Failed("--data: must be a JSON object, like '{\"limit\": 100000}'", USAGE)
    return value


@contextmanager
def _client(url: str | None) -> Iterator[Client]:
    """A client; what the dispatcher refuses becomes one line."""
    with Client(url, retry_seconds=PATIENCE_S) as client:
        try:
            yield client
        except Rejected as error:
            raise Failed(error.message, USAGE if error.status == 400 else FAILED) from None


def _row(schedule: dict[str, Any]) -> tuple[str, ...]:
    state = schedule["last_error"] or ("paused" if schedule["paused"] else "on")
    task_id = schedule["last_task_id"]
    return (
        schedule["name"], schedule["in_words"], schedule["task"]["task_type"], schedule["next_at"] or "-",
        "-" if task_id is None else str(task_id), state,
    )  # fmt: skip


def _show_all(rows: list[tuple[str, ...]]) -> None:
    console = Console()
    if not console.is_terminal:
        sys.stdout.writelines("\t".join(row) + "\n" for row in [COLUMNS, *rows])
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _show(schedule: dict[str, Any]) -> None:
    task = {name: value for name, value in schedule["task"].items() if name != "task_type"}
    typer.echo(f"{schedule['name']}: {schedule['in_words']}" + (", paused" if schedule["paused"] else ""))
    typer.echo(f"  task      {schedule['task']['task_type']} {json.dumps(task, ensure_ascii=False)}")
    typer.echo(f"  catch-up  {schedule['catch_up']}")
    if schedule["last_at"]:
        typer.echo(f"  last      {schedule['last_at']}, task {schedule['last_task_id']}")
    if schedule["last_error"]:
        typer.echo(f"  refused   {schedule['last_error']}")
    for tick in schedule["next_ticks"]:
        typer.echo(f"  next      {tick['in_words']}")
