"""The rules of the queue: no SQL, no Flask. `Queue` is what routes, doors and maintenance call."""

from dispatcher.queue.queue import Queue

__all__ = ["Queue"]
