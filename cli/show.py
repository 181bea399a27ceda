"""How things are shown: tables for people, in colours on a terminal only; JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.options import STATES
from common.printing import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dispatcher.store.sqlite.backup import Contents  # it takes a while to load

PLAIN_WIDTH = 200  # columns where no terminal says how many it has


def contents(found: "Contents") -> str:
    """`1,204 tasks (1,000 pending, 204 completed)`."""
    by_state = [f"{found.tasks[state]:,} {state}" for state in STATES if found.tasks.get(state)]
    total = sum(found.tasks.values())
    return f"{total:,} tasks" + (f" ({', '.join(by_state)})" if by_state else "")


def as_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class Coloured(NamedTuple):
    """A cell in a colour, where there are colours."""

    text: str
    style: str


def things(
    found: Sequence[Mapping[str, Any]],
    headings: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[object]],
    plain: bool,
) -> None:
    """Things of one kind: a table, or what they are in JSON where that is wanted."""
    if plain:
        as_json(found)
    else:
        table(headings, (row(dict(one)) for one in found))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings; wide and plain when that is no terminal."""
    console().print(table_of(headings, rows))


def table_of(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Rows under headings, to be shown."""
    from rich.table import Table  # here: it takes a while to load, and not every command shows one

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(_cell(cell) for cell in row))
    return made


def record(fields: Iterable[tuple[str, object]]) -> None:
    """One thing: its fields, a line each."""
    console().print(record_of(fields))


def record_of(fields: Iterable[tuple[str, object]]) -> "Table":
    """The fields of one thing, to be shown."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in fields:
        made.add_row(name, _cell(value))
    return made


def span(seconds: float) -> str:
    """`3.2 h`: good enough to judge by."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def console() -> "Console":
    """Where things are shown; wide and plain when that is no terminal."""
    from rich.console import Console

    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def _cell(value: object) -> "Text":
    from rich.text import Text

    if isinstance(value, Coloured):
        return Text(printable(value.text), value.style)
    return Text("-" if value is None else printable(str(value)))
