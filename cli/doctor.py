"""`taskmill doctor`: looks at everything that commonly goes wrong and says what to do."""

from collections.abc import Iterator

import click

from cli import checks, show
from cli.checks import FAIL, OK, WARN, Finding
from cli.database import examine
from cli.errors import DONE, FAILED
from cli.options import examples, json_option

STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


@click.command(epilog=examples("doctor", "doctor --json"))
@json_option
def command(as_json: bool) -> int:
    """Check settings, dispatcher, store, disks, workers and this machine.

    It changes nothing and says what to do. Exit code 1 when something fails; warnings alone are 0.
    """
    findings = list(_examine())
    if as_json:
        numbers = {state: sum(one.state == state for one in findings) for state in (OK, WARN, FAIL)}
        show.as_json({**numbers, "checks": [one._asdict() for one in findings]})
    else:
        rows = [(one.name, show.Coloured(one.state, STYLES[one.state]), one.found, one.remedy) for one in findings]
        show.table(("check", "", "found", "what to do"), rows)
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
        yield from checks.versions(first)
    yield from checks.outboxes(settings.worker.cache_dir)
    yield from checks.limits(settings.dispatcher.threads)
