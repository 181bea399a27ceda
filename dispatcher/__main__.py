"""`python -m dispatcher`: settings, socket and store first, then, when all of them are good, what serves."""

if __name__ == "__main__":  # what follows takes a while to load: Ctrl-C meanwhile ends it, without a traceback
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from common import garbage as garbage  # first: all that follows is imported faster
from common import logs
from common.places import DISPATCHER
from common.settings import SettingError, environment, load, secrets
from dispatcher import process
from dispatcher.config import VERSION, DispatcherSettings, check
from dispatcher.errors import CannotOpen, Unavailable
from dispatcher.store.opening import open_store


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped by a signal, 2 cannot start (one line on stderr says why)."""
    options = parser().parse_args(argv)
    try:
        settings = load(DispatcherSettings, environment(), **_given(options))
        check(settings, options.insecure)
        logs.set_up(settings.log_level, settings.log_format, secrets(settings))
        return _run(settings)
    except (SettingError, CannotOpen, Unavailable, process.CannotListen) as error:
        print(f"dispatcher: {error}", file=sys.stderr)  # noqa: T201  the one line that says why
        return 2


def parser() -> argparse.ArgumentParser:
    """Its command line."""
    made = argparse.ArgumentParser(prog=DISPATCHER.removeprefix("./"), description="The Taskmill dispatcher.")
    made.add_argument("--host", help="address to bind (setting DISPATCHER_HOST)")
    made.add_argument("--port", type=int, help="port to bind, 0 for a free one (setting DISPATCHER_PORT)")
    made.add_argument("--insecure", action="store_true", help="bind any address without a token")
    made.add_argument("--version", action="version", version=VERSION)
    return made


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in (("host", options.host), ("port", options.port)) if value is not None}


def _run(settings: DispatcherSettings) -> int:
    with process.listen(settings.host, settings.port) as listener:
        store = open_store(settings.database_url, settings.db_path, settings.database_notify)
        from dispatcher import running  # loaded late: what cannot start says so in a third of the time

        return running.serve(settings, listener, store)


def run() -> NoReturn:
    """The whole program."""
    process.leave(main())


if __name__ == "__main__":
    run()
