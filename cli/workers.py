"""`taskmill workers`, `quiet`, `resume` and `stop`: who works, and what they are to do."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.errors import FAILED, Failed
from client import Client
from client.errors import Rejected

PLAIN_WIDTH = 200  # columns where no terminal says how many it has
STYLES = {"quiet": "yellow", "stop": "red"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The worker's name.", show_default=False)]
Url = Annotated[str | None, typer.Option(help="The dispatcher (setting DISPATCHER_URL).", show_default=False)]


def listing(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs.")] = False, url: Url = None
) -> None:
    """List the workers: what they do now, and what they were told to do."""
    with _client(url) as client:
        workers = client.workers()
    if as_json:
        typer.echo(json.dumps(workers))
    else:
        _show(workers)


def quiet(name: Name, url: Url = None) -> None:
    """Have a worker finish what it runs and take nothing new, until it is resumed; it stays so when it is restarted."""
    _order(url, name, "quiet")


def resume(name: Name, url: Url = None) -> None:
    """Have a quiet worker take tasks again."""
    _order(url, name, "run")


def stop(
    name: Name,
    now: Annotated[bool, typer.Option("--now", help="Do not wait: what runs is given back, uncounted.")] = False,
    url: Url = None,
) -> None:
    """End a worker after the tasks that it runs. Started again under that name it works, unless it was made quiet."""
    _order(url, name, "stop", "now" if now else "after")


def _client(url: str | None) -> Client:
    return Client(url, retry_seconds=0)


def _order(url: str | None, name: str, state: str, when: str | None = None) -> None:
    with _client(url) as client:
        try:
            reached = client.order_worker(name, state, when)
        except Rejected as error:
            if error.code != "not_found":
                raise
            raise Failed(f"no worker of the name {name} was ever seen (./taskmill workers)", FAILED) from None
    live = f"{reached} running" if reached else "none is running now"
    typer.echo(f"{name}: {state}{' now' if when == 'now' else ''} ({live})")


def _show(workers: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("worker", "status", "told to", "tasks", "slots", "host", "labels", "version", "task types"):
        table.add_column(heading, overflow="fold")
    for worker in workers:
        table.add_row(*_row(worker))
    console.print(table)


def _row(worker: Mapping[str, Any]) -> list[Text]:
    metadata = worker["metadata"]
    version = f"{worker.get('version') or ''} python {worker['python']}" if worker.get("python") else ""
    labels, types = (" ".join(worker.get(name) or ()) for name in ("labels", "task_types"))
    status = Text(worker["status"], "green" if worker["status"] == "alive" else "red")
    state = Text(worker["state"], STYLES.get(worker["state"], ""))
    rest = (worker["leases"], worker.get("concurrency", ""), metadata.get("hostname", ""), labels, version, types)
    return [Text(worker["worker_id"]), status, state, *(Text(str(part)) for part in rest)]
