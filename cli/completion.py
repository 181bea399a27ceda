"""`taskmill completion`: commands and options at the tabulator key."""

import click
from click.shell_completion import get_completion_class

from cli.errors import DONE
from cli.options import examples

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TASKMILL_COMPLETE"


@click.command(epilog=examples('completion bash   # in .bashrc: eval "$(/opt/taskmill/taskmill completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> int:
    """Print what makes a shell complete these commands."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "taskmill", VARIABLE).source())
    return DONE
