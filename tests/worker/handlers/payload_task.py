"""Takes a pydantic model."""

from typing import Any

from pydantic import BaseModel


class Payload(BaseModel):
    limit: int


def execute(payload: Payload, context: Any) -> dict[str, Any]:
    return {"type": type(payload).__name__, "limit": payload.limit}
