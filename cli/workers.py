"""`taskmill workers`, `taskmill worker NAME quiet` and the like, `blames`: who works and what they are to do."""

from collections.abc import Mapping
from typing import Any

import click

from cli import show
from cli.errors import DONE, REFUSED, Failed
from cli.options import alone, asking, dispatcher, examples, name_of, named_group
from client.errors import Rejected
from common.places import OPERATOR

HEADINGS = ("worker", "status", "told to", "tasks", "slots", "host", "labels", "version", "task types")
at_once = click.option("--now", is_flag=True, help="Do not wait: what runs is given back, uncounted.")
STYLES = {"quiet": "yellow", "sleep": "yellow", "stop": "red"}


@click.command(epilog=examples("workers", "workers --json"))
@asking
def workers(as_json: bool, url: str | None) -> int:
    """List the workers: what they do, and what they were told to do."""
    with dispatcher(url) as client:
        show.things(client.workers(), HEADINGS, _row, as_json)
    return DONE


@named_group(
    "worker lab-3", "worker lab-3 quiet", "worker lab-3 sleep --now", "worker lab-3 stop", "worker lab-3 forgive render"
)
def worker(context: click.Context, name: str, as_json: bool, url: str | None) -> int:
    """Show a worker, or tell it what to do."""
    if not alone(context, as_json, url):
        return DONE
    with dispatcher(url) as client:
        found = [one for one in client.workers() if one["worker_id"] == name]
    if not found:
        raise _never_seen(name)
    show.things(found, HEADINGS, _row, as_json)
    return DONE


@worker.command()
@asking
@click.pass_context
def run(context: click.Context, as_json: bool, url: str | None) -> int:
    """Have a quiet or sleeping worker take tasks again."""
    return _order(context, "run", None, as_json, url)


@worker.command()
@asking
@click.pass_context
def quiet(context: click.Context, as_json: bool, url: str | None) -> int:
    """Have a worker finish what it runs and take nothing new, until it is told to run; it stays so over restarts."""
    return _order(context, "quiet", None, as_json, url)


@worker.command()
@at_once
@asking
@click.pass_context
def sleep(context: click.Context, now: bool, as_json: bool, url: str | None) -> int:
    """Have a worker leave its machine to others after the tasks that it runs, until it is told to run.

    It takes nothing new and gives back what it has not begun; it stays so over restarts.
    """
    return _order(context, "sleep", "now" if now else "after", as_json, url)


@worker.command()
@at_once
@asking
@click.pass_context
def stop(context: click.Context, now: bool, as_json: bool, url: str | None) -> int:
    """End a worker after the tasks that it runs. Started again under its name it works, unless quiet or asleep."""
    return _order(context, "stop", "now" if now else "after", as_json, url)


@worker.command()
@click.argument("task_type", metavar="[TYPE]", required=False)
@asking
@click.pass_context
def forgive(context: click.Context, task_type: str | None, as_json: bool, url: str | None) -> int:
    """Let a worker have a type again that it did not get (see `taskmill blames`); without TYPE all of them."""
    name = name_of(context)
    with dispatcher(url) as client:
        forgiven = client.forgive(name, task_type)
    if as_json:
        show.as_json({"worker_id": name, "forgiven": forgiven})
    else:
        click.echo(f"{name} gets {task_type or f'{forgiven} types'} again")
    return DONE


@click.command(epilog=examples("blames", "blames --json"))
@asking
def blames(as_json: bool, url: str | None) -> int:
    """List the workers that do not get a type, because it fails there alone."""
    with dispatcher(url) as client:
        found = client.blames()
    if as_json:
        show.as_json(found)
    elif found:
        rows = [(one["worker_id"], one["task_type"], one["blamed_at"], one["reason"]) for one in found]
        show.table(("worker", "type", "since", "why"), rows)
    else:
        click.echo("no worker is to blame for anything")
    return DONE


def _order(context: click.Context, state: str, when: str | None, as_json: bool, url: str | None) -> int:
    name = name_of(context)
    with dispatcher(url) as client:
        try:
            reached = client.order_worker(name, state, when)
        except Rejected as error:
            raise (_never_seen(name) if error.code == "not_found" else error) from None
    live = f"{reached} alive" if reached else "none is alive now"
    if as_json:
        show.as_json({"worker_id": name, "state": state, "when": when, "instances": reached})
    else:
        click.echo(f"{name}: {state}{' now' if when == 'now' else ''} ({live})")
    return DONE


def _never_seen(name: str) -> Failed:
    return Failed(f"no worker of the name {name} was ever seen ({OPERATOR} workers)", REFUSED)


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    version = f"{one.get('version') or ''} python {one['python']}" if one.get("python") else ""
    labels, types = (" ".join(one.get(name) or ()) for name in ("labels", "task_types"))
    status = show.Coloured(one["status"], "green" if one["status"] == "alive" else "red")
    state = show.Coloured(one["state"], STYLES.get(one["state"], ""))
    rest = (one["leases"], one.get("concurrency", ""), one["metadata"].get("hostname", ""), labels, version, types)
    return one["worker_id"], status, state, *rest
