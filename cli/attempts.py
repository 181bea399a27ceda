"""`taskmill blames` and `taskmill forgive`: workers that do not get a type, because it fails on them alone."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.client import Client

Url = Annotated[str | None, typer.Option(help="The dispatcher (setting DISPATCHER_URL).", show_default=False)]


def blames(as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False, url: Url = None) -> None:
    """List the workers that do not get a type: several of its tasks failed there in a row, and not elsewhere."""
    with Client(url) as client:
        found = client.blames()
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    elif not found:
        sys.stdout.write("no worker is to blame for anything\n")
    elif sys.stdout.isatty():
        table = Table("worker", "type", "since", "why")
        for one in found:
            table.add_row(one["worker_id"], one["task_type"], one["blamed_at"], one["reason"])
        Console().print(table)
    else:
        for one in found:
            sys.stdout.write("\t".join((one["worker_id"], one["task_type"], one["blamed_at"], one["reason"])) + "\n")


def forgive(
    worker: Annotated[str, typer.Argument(help="The worker's name.", metavar="WORKER", show_default=False)],
    task_type: Annotated[
        str | None, typer.Argument(help="One type; without it all of them.", metavar="TYPE", show_default=False)
    ] = None,
    url: Url = None,
) -> None:
    """Let a worker have a type again that it did not get (see `taskmill blames`)."""
    with Client(url) as client:
        forgiven = client.forgive(worker, task_type)
    sys.stdout.write(f"{worker} gets {task_type or f'{forgiven} types'} again\n")
