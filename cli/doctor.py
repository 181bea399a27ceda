"""`taskmill doctor`: looks at everything that commonly goes wrong and says what to do."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import checks
from cli.checks import FAIL, OK, WARN, Finding
from cli.database import examine
from cli.errors import DONE, FAILED

STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}
PLAIN_WIDTH = 200  # columns where no terminal says how many it has


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> int:
    """Check settings, dispatcher, store, disks, workers and this machine; say what to do.

    Exit code 1 when something fails; warnings alone are 0.
    """
    findings = list(_examine())
    if as_json:
        numbers = {state: sum(one.state == state for one in findings) for state in (OK, WARN, FAIL)}
        typer.echo(json.dumps({**numbers, "checks": [one._asdict() for one in findings]}))
    else:
        _show(findings)
    return FAILED if any(one.state == FAIL for one in findings) else DONE


def _examine() -> Iterator[Finding]:
    settings, faults = checks.settings()
    yield from faults
    first = None
    for url in settings.urls:
        seen, findings = checks.dispatcher(url, settings.token)
        yield from findings
        if seen is not None:
            yield from checks.clocks(seen)
            first = first or seen
    database = None if settings.dispatcher.database_url else settings.dispatcher.db_path
    if settings.dispatcher.database_url:
        yield from examine(settings.dispatcher.database_url)
    yield from checks.sqlite(first, database)
    places = (("DB_PATH", database and database.parent), ("CACHE_DIR", settings.worker.cache_dir))
    yield from checks.disks((name, path) for name, path in places if path)
    if first is not None and first.stats is not None:
        yield from checks.workers(first.stats)
    yield from checks.outboxes(settings.worker.cache_dir)
    yield from checks.limits(settings.dispatcher.threads)


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("check", "", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for one in findings:
        table.add_row(one.name, Text(one.state, STYLES[one.state]), Text(one.found), Text(one.remedy))
    console.print(table)
