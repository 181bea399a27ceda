"""Words for people."""

from rich.console import Console

from dispatcher.store.sqlite.backup import Contents

PLAIN_WIDTH = 200  # columns where no terminal says how many it has
STATES = ("blocked", "pending", "in_progress", "completed", "failed", "cancelled")


def tasks(contents: Contents) -> str:
    """`1,204 tasks (1,000 pending, 204 completed)`."""
    by_state = [f"{contents.tasks[state]:,} {state}" for state in STATES if contents.tasks.get(state)]
    total = sum(contents.tasks.values())
    return f"{total:,} tasks" + (f" ({', '.join(by_state)})" if by_state else "")


def console() -> Console:
    """Where tables go; wide and plain when that is no terminal."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def one_line(text: str) -> str:
    """A handler's text must not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
