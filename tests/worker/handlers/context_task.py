"""Uses everything a context has."""

import os
from typing import Any


def execute(payload: dict[str, Any], context: Any) -> dict[str, Any]:
    context.progress(1, 4, "first")
    context.log("hello log")
    for done in range(payload.get("updates", 0)):
        context.progress(done, 100)
    context.checkpoint({"at": "end"})
    if payload.get("crash"):
        import threading

        threading.Event().wait(payload["crash"])
        os._exit(9)
    return {"resumed_from": context.checkpoint_state, "cancelled": context.cancelled()}
