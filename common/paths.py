"""Files that are named on a command line."""

import os
from pathlib import Path


def named(path: str | Path) -> Path:
    """Where such a file is: counted from where the user stands, not from the repository, which scripts go to."""
    return Path(os.environ.get("TASKMILL_CALLED_FROM", ".")) / Path(path).expanduser()
