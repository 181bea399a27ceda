#!/usr/bin/env python3
"""Submits tasks: add_task.py COUNT [LIMIT [sieve|trial_division]]; --help shows everything else.

Runs from any directory, under any Python: where the libraries are missing it goes on in the repository's .venv,
which it makes first if need be.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"


def main() -> int:
    """Runs the command line here or in the venv; returns its exit code."""
    try:
        from client.cli import main as add_task
    except KeyboardInterrupt:
        return 130  # nothing was submitted
    except (ImportError, SyntaxError, TypeError):  # a library is missing, or this Python is older than 3.10
        if Path(sys.prefix).resolve() == VENV.resolve():
            raise
        return go_on_in_venv()
    return add_task(sys.argv[1:])


def go_on_in_venv() -> int:
    """Replaces this process by the same command under the venv's Python; returns 2 when that is impossible."""
    if subprocess.call([str(ROOT / "setup_venv.sh")], stdout=sys.stderr) == 0:  # instant when nothing is missing
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, str(ROOT / "add_task.py"), *sys.argv[1:]])  # noqa: S606 -- no shell is wanted
    return 2


if __name__ == "__main__":
    sys.exit(main())
