"""`taskmill status` and `taskmill top`: the farm in one screen, once or live."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli import farm, show
from cli.errors import DONE, FAILED
from cli.options import asking, dispatcher, examples
from client.client import Client
from client.errors import TransportError

if TYPE_CHECKING:
    from rich.console import Console

LOOK_S = 1.0
Ended = Callable[[float], bool]  # waits so many seconds: whether the user has had enough


@click.command(epilog=examples("status", "status --json"))
@asking
def status(as_json: bool, url: str | None) -> int:
    """Show the farm in one screen: one word, figures, workers, queues.

    The word is the dashboard's: active (tasks run), waiting (tasks wait, none runs), idle (nothing to do), asleep (no
    worker takes tasks), inoperable (the store takes no writes). Exit code 1 when it is inoperable.
    """
    with dispatcher(url) as client:
        return _once(farm.look(client, running=False), as_json)


@click.command(epilog=examples("top", "top --url http://lab:5000"))
@asking
def top(as_json: bool, url: str | None) -> int:
    """Watch the farm live: as status, and what each worker runs; q ends it.

    It looks every second. With --json, or where there is no terminal, once.
    """
    with dispatcher(url) as client:
        seen, console = farm.look(client, running=True), show.console()
        if as_json or not sys.stdout.isatty() or console.is_dumb_terminal:
            return _once(seen, as_json)
        try:
            with _keys() as ended:
                _live(client, seen, console, ended)
        except KeyboardInterrupt:
            pass
    return DONE


def _once(seen: farm.Seen, as_json: bool) -> int:
    if as_json:
        show.as_json(seen.plain())
    else:
        show.console().print(farm.screen(seen))
    return FAILED if seen.word == "inoperable" else DONE


def _live(client: Client, seen: farm.Seen, console: "Console", ended: Ended) -> None:
    """Until the user has had enough; while the dispatcher is away the last picture stays."""
    from rich.live import Live

    live, trouble = Live(console=console, screen=True, auto_refresh=False), ""
    try:
        with _shielded():
            live.start()
        while True:
            with _shielded():
                live.update(farm.screen(seen, trouble), refresh=True)
            if ended(LOOK_S):
                return
            trouble = ""
            try:
                seen = farm.look(client, running=True)
            except TransportError as error:
                trouble = f"{time.strftime('%H:%M:%S')} {error}; this is how it was before"
    finally:
        with _shielded():
            live.stop()


@contextmanager
def _shielded() -> Iterator[None]:
    """An interrupt comes behind it: in the midst of it rich would keep to itself what puts the terminal back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _keys() -> Iterator[Ended]:
    """Hears single keys, without showing them; the terminal is put back."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield _slept
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield lambda seconds: _pressed(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(terminal: int, seconds: float) -> bool:
    """Whether q was pressed, or the terminal went, within so many seconds; another key ends the wait."""
    if not select.select([terminal], [], [], seconds)[0]:
        return False
    keys = os.read(terminal, 64)
    return not keys or b"q" in keys.lower()
