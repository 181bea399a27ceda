"""What the commands' options have in common."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from common import submitting
from common.durations import parse_duration
from common.submitting import BadOption, Option

if TYPE_CHECKING:
    from client.client import Client

PATIENCE_S = 2.0  # of retries: an operator would rather know
STATES = ("blocked", "pending", "in_progress", "completed", "failed", "cancelled")

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]

url_option = click.option("--url", metavar="URL", help="The dispatcher (setting DISPATCHER_URL).")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be changed, change nothing.")
id_argument = click.argument("task_id", metavar="ID", type=click.IntRange(1))


def asking(function: Function) -> Function:
    """The options of a command that asks a dispatcher: --json and --url."""
    return json_option(url_option(function))


def name_argument(function: Function) -> Function:
    """The NAME of a queue, worker or schedule."""
    return click.argument("name", metavar="NAME")(function)


def _state(text: str) -> str:
    if text not in STATES:
        raise ValueError(f"{text!r} is none of {', '.join(STATES)}")
    return text


LISTED = (
    Option("--status", "status", "STATE", "only tasks in this state", _state, choices=STATES),
    Option("--queue", "queue", "NAME", "only tasks of this queue"),
    Option("--type", "task_type", "NAME", "only tasks of this type"),
    Option("--tag", "tag", "NAME", "only tasks with this tag"),
)
FILTERS = (
    *LISTED,
    Option("--older-than", "older_than_seconds", "7d", "ended, or else submitted, longer ago", parse_duration),
    Option("--newer-than", "newer_than_seconds", "2h", "ended, or else submitted, since", parse_duration),
)


def dispatcher(url: str | None) -> "Client":
    """The running dispatcher."""
    from client.client import Client  # here: it takes a while to load, and --help needs none

    return Client(url, retry_seconds=PATIENCE_S)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  taskmill {line}" for line in lines)])


def taking(taken: Sequence[Option], *, none: bool = False) -> Decorator:
    """A command that takes these options; it gets what they were given as its argument `fields`."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(**given: Any) -> Any:
            texts = {option.field: given.pop(option.field) for option in taken}
            return function(fields=submitting.read(taken, texts, none=none), **given)

        for option in reversed(taken):
            kind = click.option(
                option.flag, option.field, metavar=option.metavar, multiple=option.many,
                help=f"{option.help[0].upper()}{option.help[1:]}.", shell_complete=_completing(option.choices),
            )  # fmt: skip
            command = kind(command)
        return command

    return decorate


def _completing(choices: Sequence[str]) -> Callable[..., list[str]] | None:
    if not choices:
        return None
    return lambda context, parameter, begun: [choice for choice in choices if choice.startswith(begun)]


def duration(flag: str, text: str | None) -> float | None:
    """Seconds of an option; None when it was not given. Raises BadOption."""
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise BadOption(f"{flag}: {error}") from None


def named_group(*lines: str) -> Callable[[Function], click.Group]:
    """A group whose NAME comes first; these are its examples. Its function gets (context, name, as_json, url)."""

    def decorate(function: Function) -> click.Group:
        asked = name_argument(asking(click.pass_context(function)))
        made: click.Group = click.group(cls=Named, invoke_without_command=True, epilog=examples(*lines))(asked)
        return made

    return decorate


class Named(click.Group):
    """A group whose NAME comes first: `queue NAME`, `queue NAME --json`, `queue NAME pause --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options between NAME and a word are those of the group."""
        if len(args) > 1 and not args[0].startswith("-") and args[1].startswith("-"):
            word = next((at for at, word in enumerate(args) if at and word in self.commands), len(args))
            args = [*args[1:word], args[0], *args[word:]]
        return super().parse_args(ctx, args)


def alone(context: click.Context, as_json: bool, url: str | None) -> bool:
    """Whether NAME stands alone, without a word; then options before that would be for nobody. Raises BadOption."""
    if context.invoked_subcommand is not None and (as_json or url):
        raise BadOption(f"--{'json' if as_json else 'url'}: say it after {context.invoked_subcommand}")
    return context.invoked_subcommand is None


def name_of(context: click.Context) -> str:
    """The NAME that stands before the word of a command such as `queue NAME pause`."""
    assert context.parent is not None
    return str(context.parent.params["name"])
