"""Raises."""

from typing import Any


class Odd(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def execute(task_id: int, payload: dict[str, Any]) -> None:
    how = payload["how"]
    if how == "memory":
        bytearray(2**60)
    elif how == "odd":
        raise Odd
    elif how == "recursion":
        execute(task_id, payload)
    elif how == "long":
        raise ValueError("x" * 200_000)
    raise ValueError("lone \ud800 and \0")
