"""How commands name tasks: by ids, or by what they have in common."""

from typing import Annotated

import typer

from client.client import Client
from dispatcher.model import State

Ids = Annotated[list[int] | None, typer.Argument(min=1, help="Tasks by their ids.", metavar="ID...")]
Status = Annotated[State | None, typer.Option(help="Only tasks in this state.")]
Queue = Annotated[str | None, typer.Option(help="Only tasks of this queue.")]
TaskType = Annotated[str | None, typer.Option("--type", help="Only tasks of this type.")]
Tag = Annotated[str | None, typer.Option(help="Only tasks with this tag.")]
OlderThan = Annotated[str | None, typer.Option(help="Ended, or else submitted, longer ago: 90s, 12h, 7d.")]
NewerThan = Annotated[str | None, typer.Option(help="Ended, or else submitted, since: 90s, 12h, 7d.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PATIENCE_S = 5.0  # an operator would rather know


def dispatcher() -> Client:
    """The running dispatcher."""
    return Client(retry_seconds=PATIENCE_S)
