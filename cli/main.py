"""`./taskmill`: the command line, and how errors become one line and an exit code.

A command's module is imported when the command is called: the start stays quick.
"""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from cli.errors import FAILED, INTERRUPTED, UNREACHABLE, USAGE, Failed
from cli.table import COMMANDS, SECTIONS
from common.exits import of_status
from common.places import DISPATCHER, OPERATOR
from common.places import module as full_name
from common.settings import SettingError
from common.submitting import by_flags
from dispatcher.errors import BadBackup, CannotOpen

HELP = "Commands for who runs Taskmill. Settings come from the environment and .env (see .env.example)."
EPILOG = """\b
Examples:
  taskmill tasks --status failed
  taskmill cancel --queue reports --dry-run
  taskmill queue mail limit --running 10
  taskmill COMMAND --help

\b
Exit codes:
  0    done
  1    failed, or a task that was asked about did
  2    the command line, its input or a setting is at fault
  3    no dispatcher answers, or it has trouble of its own
  4    the dispatcher refuses it as things stand
  130  interrupted

More: docs/commands.md
"""


class Commands(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(full_name(module)), name)
        return found

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an interrupt is one line like every other end."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Failed("interrupted", INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Their table, without importing them."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])


app = Commands("taskmill", help=HELP, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing half-done is left behind
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = app.main(words, prog_name="taskmill", standalone_mode=False) or 0
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return _explain(error)
    return _fail("interrupted", INTERRUPTED) if code == INTERRUPTED else int(code)


def _explain(error: BaseException) -> int:
    """The exit code of what went wrong, told in one line; the unexpected is raised again."""
    if isinstance(error, Failed):
        return _fail(str(error), error.code)
    if isinstance(error, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _fail(f"{error.format_message().rstrip('.')} ({OPERATOR} --help)", USAGE)
    if isinstance(error, (SettingError, ValueError)):
        return _fail(str(error), USAGE)
    if isinstance(error, (BadBackup, CannotOpen)):
        return _fail(str(error), FAILED)
    if isinstance(error, OSError):
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    return _explain_answer(error)


def _explain_answer(error: BaseException) -> int:
    """What came, or did not come, from the dispatcher."""
    from client.errors import ClientError, Rejected, TransportError, Unreachable  # here: it takes a while to load

    if isinstance(error, Rejected):
        return _fail(by_flags(error.message), of_status(error.status))
    if isinstance(error, Unreachable):
        return _fail(f"{error}; start it with {DISPATCHER}, or set DISPATCHER_URL", UNREACHABLE)
    if isinstance(error, ClientError):
        return _fail(str(error), UNREACHABLE if isinstance(error, TransportError) else FAILED)
    raise error


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"taskmill: {' '.join(message.split())}\n")
    return code
