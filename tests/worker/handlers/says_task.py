"""Says by what it raises how its attempt is to be taken."""

from typing import Any

from tasks.context import Fail, Snooze

max_attempts = 7
timeout_seconds = 30
backoff = {"first_seconds": 0.5, "max_seconds": 60}


def execute(payload: dict[str, Any], context: Any) -> None:
    if "snooze" in payload:
        raise Snooze(payload["snooze"])
    raise Fail("no such customer", retry=payload["retry"])
