"""Where the program lies, and its modules' names: `worker` in the repository, `taskmill.worker` when installed."""

from pathlib import Path

_PREFIX = __name__.removesuffix("common.places")
CODE = Path(__file__).resolve().parent.parent  # the folder with client/, worker/ …
IMPORTS = CODE.parent if _PREFIX else CODE  # what `sys.path` needs for our modules
ROOT = Path.cwd() if _PREFIX else CODE  # where .env is, and relative paths in settings count from


def module(name: str) -> str:
    """The full name of one of our modules, for those who name it in a text."""
    return _PREFIX + name


def boot(name: str) -> str:
    """A program for `python -I -c`, whose first argument is IMPORTS: runs the `main` of one of our modules."""
    reach = "import sys; sys.argv[1] in sys.path or sys.path.insert(0, sys.argv[1])"
    return f"{reach}; from {module(name)} import main; main()"


def command(script: str, installed: str) -> str:
    """How the user calls a command: by its script in the repository, or by its installed name."""
    return installed if _PREFIX else script


DISPATCHER = command("./start_dispatcher.sh", "taskmill-dispatcher")
WORKER = command("./start_worker.sh", "taskmill-worker")
ADD = command("add_task.py", "taskmill-add")
OPERATOR = command("./taskmill", "taskmill")
