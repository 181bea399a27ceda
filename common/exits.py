"""The exit codes of the command lines (docs/commands.md)."""

DONE = 0
FAILED = 1  # it was tried, and something did not come out well: a task failed, a check, a file
USAGE = 2  # the command line, its input or a setting is at fault; nothing was changed
UNREACHABLE = 3  # no dispatcher answers, or it has trouble of its own (5xx)
REFUSED = 4  # the dispatcher refuses this as things stand: not found, not waiting, no token, full (4xx)
INTERRUPTED = 130


def of_status(status: int) -> int:
    """The exit code for an HTTP status that is no success."""
    if status >= 500:
        return UNREACHABLE
    return USAGE if status in (400, 413) else REFUSED
