"""`./taskmill`: the command line, and how errors become one line and an exit code."""

import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from cli import attempts, backup, control, doctor, migrate, queues, restore, retention, schedules, tasks, workers
from cli.errors import FAILED, INTERRUPTED, USAGE, Failed
from client.errors import ClientError, Unreachable
from common.settings import SettingError
from dispatcher.errors import CannotOpen
from dispatcher.store.sqlite.backup import BadBackup

app = typer.Typer(
    help="Commands for who runs Taskmill. Settings come from the environment and .env (see .env.example).",
    epilog="Exit codes: 0 done, 1 failed, 2 the command line or a setting is at fault. More: docs/operating.md",
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("backup")(backup.command)
app.command("restore")(restore.command)
app.command("migrate")(migrate.command)
app.command("doctor")(doctor.command)
app.command("workers")(workers.listing)
app.command("quiet")(workers.quiet)
app.command("resume")(workers.resume)
app.command("stop")(workers.stop)
app.command("tasks")(tasks.tasks)
app.command("show")(tasks.show)
app.command("cancel")(control.cancel)
app.command("retry")(control.retry)
app.command("delete")(control.delete)
app.command("edit")(control.edit)
app.command("retention")(retention.command)
app.command("schedules")(schedules.schedules)
app.command("schedule")(schedules.schedule)
app.command("unschedule")(schedules.unschedule)
for command in (queues.queues, queues.pause, queues.unpause, queues.limit, queues.why):
    app.command(command.__name__)(command)
app.command("blames")(attempts.blames)
app.command("forgive")(attempts.forgive)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing half-done is left behind
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = app(words, prog_name="taskmill", standalone_mode=False) or 0
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return _explain(error)
    return _fail("interrupted; nothing was changed", INTERRUPTED) if code == INTERRUPTED else int(code)


def _explain(error: BaseException) -> int:
    """The exit code of what went wrong, told in one line; the unexpected is raised again."""
    if isinstance(error, Failed):
        return _fail(str(error), error.code)
    if isinstance(error, TyperException):
        return _fail(f"{error.format_message().rstrip('.')} (./taskmill --help)", USAGE)
    if isinstance(error, Unreachable):
        return _fail(f"{error}; start it with ./start_dispatcher.sh, or set DISPATCHER_URL", FAILED)
    if isinstance(error, (SettingError, ValueError)):
        return _fail(str(error), USAGE)
    if isinstance(error, (BadBackup, CannotOpen, ClientError)):
        return _fail(str(error), FAILED)
    if isinstance(error, OSError):
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    raise error


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"taskmill: {' '.join(message.split())}\n")
    return code
