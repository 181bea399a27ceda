"""Words for people."""

from dispatcher.store.sqlite.backup import Contents

STATES = ("blocked", "pending", "in_progress", "completed", "failed", "cancelled")


def tasks(contents: Contents) -> str:
    """`1,204 tasks (1,000 pending, 204 completed)`."""
    by_state = [f"{contents.tasks[state]:,} {state}" for state in STATES if contents.tasks.get(state)]
    total = sum(contents.tasks.values())
    return f"{total:,} tasks" + (f" ({', '.join(by_state)})" if by_state else "")
