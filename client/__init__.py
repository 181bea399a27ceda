"""The client of a Taskmill dispatcher: `Client` for programs, `Transport` for the worker, and add_task.py's CLI."""

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
from client.events import Event
from client.schedules import Submitted

__all__ = [
    "BadReply",
    "Client",
    "ClientError",
    "Event",
    "Refused",
    "Rejected",
    "StillOpen",
    "Submitted",
    "TaskCancelled",
    "TaskFailed",
    "TransportError",
    "Unreachable",
]
