"""`taskmill retention`: how long ended tasks are kept."""

from typing import Any

import click

from cli import show
from cli.errors import DONE
from cli.options import asking, dispatcher, duration, examples

STATES = ("completed", "failed", "cancelled")
UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
HOW = "tasks, as 7d, 12h or 90s; unset: no longer said here"


@click.command(
    epilog=examples("retention", "retention mail --completed 1d --failed 90d", "retention mail --failed unset")
)
@click.argument("queue", metavar="[QUEUE]", required=False)
@click.option("--completed", metavar="7d", help=f"Completed {HOW}.")
@click.option("--failed", metavar="7d", help=f"Failed {HOW}.")
@click.option("--cancelled", metavar="7d", help=f"Cancelled {HOW}.")
@asking
def command(queue: str | None, as_json: bool, url: str | None, **given: str | None) -> int:
    """Show, or set, how long ended tasks are kept: those of QUEUE, or of every queue that says nothing itself."""
    seconds = {f"{state}_seconds": _seconds(state, text) for state, text in given.items() if text is not None}
    with dispatcher(url) as client:
        told = client.set_retention(queue, **seconds) if seconds else client.retention()
    if as_json:
        show.as_json(told)
    else:
        _show(told)
    return DONE


def _seconds(state: str, text: str) -> int | None:
    seconds = None if text == "unset" else duration(f"--{state}", text)
    return None if seconds is None else int(seconds)


def _show(told: dict[str, Any]) -> None:
    kept = [("(any other)", told["default"]), *told["queues"].items()]
    rows = [(name, *(_words(seconds.get(f"{state}_seconds")) for state in STATES)) for name, seconds in kept]
    show.table(("queue", *STATES), rows)


def _words(seconds: float | None) -> str:
    """`7d`, `1d12h`; a dash where nothing is said."""
    if seconds is None:
        return "-"
    left, words = int(seconds), ""
    for size, unit in UNITS:
        if left >= size:
            words += f"{left // size}{unit}"
            left %= size
    return words or "0s"
