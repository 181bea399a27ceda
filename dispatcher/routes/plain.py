"""What most tasks are, in models of a few fields, which take a third of the time of those in `models.py`.

A list is first looked at as if all in it were plain. One that is not says so, and its list goes the longer way.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from dispatcher.routes.models import MOST_TASKS, Key, Name


class PlainTask(TypedDict):
    """What most tasks of a bulk submit are: these fields of a SubmitTask and no others."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]  # as pydantic asks for it
    task_type: Name
    task_data: dict[str, Any]
    idempotency_key: NotRequired[Key]


class PlainSubmit(TypedDict):
    """A bulk submit whose tasks are all plain."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]  # as pydantic asks for it
    tasks: Annotated[list[PlainTask], Field(min_length=1, max_length=MOST_TASKS, fail_fast=True)]
    idempotency_key: NotRequired[Key]


BULK = TypeAdapter(PlainSubmit)
