"""The commands of an installed Taskmill, which may lack the libraries of a part that is not wanted everywhere."""

import sys
from importlib import import_module
from typing import Any

from common.places import module


def operator() -> int:
    """`taskmill`."""
    return int(_part("cli.main", "operator").main())


def add() -> int:
    """`taskmill-add`."""
    return int(_part("client.cli", "").main())


def dispatcher() -> int:
    """`taskmill-dispatcher`."""
    _part("dispatcher.running", "dispatcher")  # which is loaded late otherwise, when the store is open
    return int(_part("dispatcher.__main__", "dispatcher").run())


def worker() -> int:
    """`taskmill-worker`."""
    return int(_part("worker.__main__", "worker").run())


def _part(name: str, extra: str) -> Any:
    """One of our modules; exits with 2 when a library of another's is missing."""
    try:
        return import_module(module(name))
    except KeyboardInterrupt:  # it takes a while to load, and nothing was done
        sys.exit(130)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith(module("")):
            raise
        sys.stderr.write(f"{error}: this part needs  pip install 'taskmill[{extra}]'\n")
        sys.exit(2)
