"""sleep: waits. Payload `{"seconds": 0 to 86400}`, result `{"slept": seconds}`."""

import time
from typing import Any

from tasks.context import Cancelled, Context
from tasks.fields import number

MAX_SECONDS = 86_400
STEP_SECONDS = 0.2

PAYLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": MAX_SECONDS}},
    "required": ["seconds"],
}


def execute(payload: dict[str, Any], context: Context) -> dict[str, Any]:
    """Sleeps, showing progress in seconds five times a second; raises Cancelled within 0.2 s of being cancelled."""
    seconds = number(payload, "seconds", 0, MAX_SECONDS)
    began = time.monotonic()
    while (slept := time.monotonic() - began) < seconds:
        if context.cancelled():
            raise Cancelled(f"cancelled after {slept:.1f} of {seconds} s")
        context.progress(round(slept, 1), seconds)
        time.sleep(min(STEP_SECONDS, seconds - slept))
    return {"slept": seconds}
