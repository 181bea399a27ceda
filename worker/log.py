"""The worker's log: plain lines on stderr, one event one line, whatever a message contains."""

import logging
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Formatter):
    """Writes control characters (a newline of a traceback, an escape of a handler's text) as text."""

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda found: repr(found.group())[1:-1], super().format(record))


def set_up(level: str, name: str) -> None:
    """Sends the log of the whole process to stderr; `name` is the worker's."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
