"""What is told of an endpoint, and what several tables of them use.

Reply models are for OpenAPI alone, and the generated tests hold every reply to them: replies are put together by hand
(dispatcher/routes/show.py), for stored JSON text is spliced in unparsed. A reply may hold more than is said, not less.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dispatcher.errors import DispatcherError

Status = Literal["blocked", "pending", "in_progress", "completed", "failed", "cancelled"]
Moment = Annotated[AwareDatetime, Field(description="RFC 3339, UTC")]
Text = str | None
AT = "2026-11-22T09:00:00.000Z"
LEASE = "1-5f3a9c0d2b7e4816"
STORE = "b3f1c2d4e5a60718"


class Reply(BaseModel):
    """A reply may grow."""

    model_config = ConfigDict(extra="allow")


class Operation(NamedTuple):
    """One endpoint. `also`: further statuses with the same reply; `media`: of a reply that is no JSON of ours."""

    method: str
    path: str
    model: type[BaseModel] | None
    reply: type[Reply] | None
    summary: str
    description: str
    says: Any
    asks: Any = None
    success: int = 200
    query: tuple[str, ...] = ()
    errors: tuple[type[DispatcherError], ...] = ()
    also: tuple[int, ...] = ()
    bare: bool = False
    media: str | None = None


class TaskVerdict(Reply):
    """What became of one task."""

    task_id: int
    verdict: str
