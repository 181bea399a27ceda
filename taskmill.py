"""What a user's program and handlers need of Taskmill: `from taskmill import Client`.

The same names in the repository (this file) and where Taskmill is installed (there it is the package's `__init__`).
Each is imported when it is first asked for: a handler that needs `Fail` does not pay for an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from common.places import module

if TYPE_CHECKING:
    from client.client import Client
    from client.errors import (
        BadReply,
        ClientError,
        Refused,
        Rejected,
        StillOpen,
        TaskCancelled,
        TaskFailed,
        TransportError,
        Unreachable,
    )
    from client.schedules import Submitted
    from client.testing import InlineClient, LocalCluster, Run, run_task
    from tasks.context import Cancelled, Context, Fail, Snooze

    __version__: str

_PLACES = {
    "Client": "client.client",
    "Submitted": "client.schedules",
    **dict.fromkeys(("InlineClient", "LocalCluster", "Run", "run_task"), "client.testing"),
    **dict.fromkeys(("Cancelled", "Context", "Fail", "Snooze"), "tasks.context"),
}

__all__ = [
    "BadReply",
    "Cancelled",
    "Client",
    "ClientError",
    "Context",
    "Fail",
    "InlineClient",
    "LocalCluster",
    "Refused",
    "Rejected",
    "Run",
    "Snooze",
    "StillOpen",
    "Submitted",
    "TaskCancelled",
    "TaskFailed",
    "TransportError",
    "Unreachable",
    "__version__",
    "run_task",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(module("common.version")).VERSION
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module(_PLACES.get(name, "client.errors"))), name)


def __dir__() -> list[str]:
    return __all__
