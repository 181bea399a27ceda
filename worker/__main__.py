"""`python -m worker [NAME]`: runs one worker until it is told to stop."""

if __name__ == "__main__":  # what follows takes a while to load: Ctrl-C meanwhile ends it, without a traceback
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import signal
import sys
from typing import NoReturn

from common import logs
from common.places import WORKER
from common.settings import SettingError, secrets
from worker import config
from worker.instance import InstanceError
from worker.worker import NothingToRun, Worker

OPTIONS = (
    ("--dispatcher", "DISPATCHER_URL", "the dispatcher's URL; of several over one store, comma-separated"),
    ("--concurrency", "WORKER_CONCURRENCY", "how many tasks run at a time"),
    ("--min", "WORKER_MIN", "how many children there are even without work"),
    ("--max", "WORKER_MAX", "how many there are at most, while tasks wait"),
    ("--queues", "WORKER_QUEUES", "only these queues, comma-separated"),
    ("--task-types", "WORKER_TASK_TYPES", "only these task types, comma-separated"),
    ("--labels", "WORKER_LABELS", "what this machine has, comma-separated"),
    ("--tasks-path", "TASKS_PATH", "more folders with handlers"),
)


def parser() -> argparse.ArgumentParser:
    """Its command line."""
    made = argparse.ArgumentParser(prog=WORKER.removeprefix("./"), description="Run one Taskmill worker.")
    made.add_argument(
        "WORKER_ID", nargs="?", metavar="NAME", help="the worker's name (default: WORKER_ID, else the host's name)"
    )
    for option, name, what in OPTIONS:
        made.add_argument(option, dest=name, metavar="…", help=f"{what} (default: {name})")
    return made


def main(arguments: list[str] | None = None) -> int:
    """0 after a drain, 2 when the worker could not start."""
    try:
        settings = config.read(vars(parser().parse_args(arguments)))
        logs.set_up(settings.log_level, settings.log_format, secrets(settings), settings.worker_id)
        worker = Worker(settings)
    except (SettingError, InstanceError, NothingToRun, ValueError) as error:
        sys.stderr.write(f"worker: {error}\n")
        return 2
    worker.run()
    return 0


def run() -> NoReturn:
    """The whole program."""
    code = main()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # all is done; Python's own end would let a late one kill us
    sys.exit(code)


if __name__ == "__main__":
    run()
