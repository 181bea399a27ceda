"""`taskmill migrate`: moves the queue from its SQLite file into a database.

A running dispatcher does it itself and goes on serving; this command asks it and watches. When none answers and none
holds the file, the command moves it here, under the dispatcher's lock.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import click
from rich.console import Console

from cli.errors import FAILED, INTERRUPTED, USAGE, Failed
from cli.options import asking, examples
from cli.show import as_json as as_line
from client import config, urls
from client.errors import Refused, Unreachable
from client.failover import Failover, connect
from client.transport import Transport
from common.settings import ROOT, environment, load
from dispatcher.config import DispatcherSettings
from dispatcher.errors import InUse
from dispatcher.move import progress, source
from dispatcher.move.errors import CannotMove
from dispatcher.move.mover import Mover
from dispatcher.move.progress import Progress
from dispatcher.move.source import Source
from dispatcher.move.target import Target, for_settings
from dispatcher.store.sqlite import SqliteStore, opening

LOOK_S = 0.2
SCHEME = "sqlite:///"


@click.command(
    epilog=examples(
        "migrate --to postgresql://user:password@host:5432/taskmill --dry-run",
        "migrate --to postgresql://user:password@host:5432/taskmill",
    )
)
@click.option("--to", required=True, metavar="URL", help="postgresql://user:password@host:5432/database, empty.")
@click.option("--from", "from_", metavar="FILE", help="The file, as sqlite:///data/taskmill.db (setting DB_PATH).")
@click.option("--dry-run", is_flag=True, help="Look at both sides, change nothing.")
@asking
def command(to: str, from_: str | None, dry_run: bool, as_json: bool, url: str | None) -> None:
    """Move the queue into a PostgreSQL database, while everything goes on.

    Ids, leases and results stay what they are. Interrupted, the same command goes on where it was; until the switch at
    the end the file remains the queue.
    """
    given, path = config.load(), _path(from_)
    line = connect(urls.listed(url) if url else urls.of_setting(given.dispatcher_url), given.dispatcher_token or None)
    target = _target(to)
    with closing(line):
        try:
            told = _ask(line, str(path) if from_ else None, to, dry_run)
        except Unreachable as silence:
            if url:
                raise
            told = _move_here(path, target, dry_run, silence)
        except KeyboardInterrupt:
            raise Failed("the dispatcher goes on moving: run the same command again to watch", INTERRUPTED) from None
    _tell(told, to, as_json)


def _target(url: str) -> Target:
    try:
        return Target(url)
    except CannotMove as error:
        raise Failed(f"--to: {error}", USAGE) from None


def _path(text: str | None) -> Path:
    """The file that is meant; a relative one counts from the repository, like DB_PATH."""
    if text is None:
        return load(DispatcherSettings, environment()).db_path
    if "://" in text and not text.startswith(SCHEME):
        raise Failed(f"--from {text.partition('://')[0]}://…: only a SQLite file can be moved (sqlite:///path)", USAGE)
    return ROOT / Path(text.removeprefix(SCHEME)).expanduser()


# by the dispatcher


def _ask(line: Transport | Failover, path: str | None, to: str, dry_run: bool) -> dict[str, Any]:
    """Let the dispatcher do it, and watch until it is over."""
    asked = {"to": to, "from": path, "dry_run": dry_run}
    try:
        told: dict[str, Any] = line.call("POST", "/migrate", json.dumps(asked).encode())
    except Refused as error:
        raise Failed(error.message, USAGE if error.status == 400 else FAILED) from None
    with _display() as show:
        while told["phase"] not in progress.OVER:
            time.sleep(LOOK_S)
            try:
                told = line.call("GET", "/migrate")
            except (Unreachable, Refused) as error:  # it was killed, or has been started again meanwhile
                raise Failed(f"{error}; run the same command again: it goes on from there") from None
            show(_sentence(told))
    return told


@contextmanager
def _display() -> Iterator[Callable[[str], None]]:
    """Says on a terminal how far it is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda sentence: None
        return
    with console.status("moving …") as status:
        yield status.update


def _sentence(told: dict[str, Any]) -> str:
    rows = sum(table["rows"] for table in told["tables"].values())
    copied = sum(table["copied"] for table in told["tables"].values())
    return f"{told['phase']} … {copied:,} of {rows:,} rows, {told['delta']:,} changes to follow"


# without a dispatcher


def _move_here(path: Path, target: Target, dry_run: bool, silence: Unreachable) -> dict[str, Any]:
    if not path.exists():
        raise silence
    here = Progress(str(path), target.name, dry_run)
    floor_ms = load(DispatcherSettings, environment()).terms.silence_ms
    try:
        with _locked(path, silence):
            has_moved = source.moved_to(path) is not None
        sys.stderr.write(f"taskmill: {silence}; moving {path} itself\n")
        with closing(target), _opened(path, has_moved, silence) as opened, _watched(here):
            mover = Mover(opened, target, here, lambda: False, floor_ms)
            mover.check() if dry_run else mover.run()
    except CannotMove as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        raise Failed("interrupted; the same command goes on from here", INTERRUPTED) from None
    return here.told()


@contextmanager
def _locked(path: Path, silence: Unreachable) -> Iterator[None]:
    try:
        lock = opening.lock(path)
    except InUse:
        raise Failed(f"a dispatcher holds {path} but does not answer: {silence.reason} ({silence.url})") from None
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _opened(path: Path, has_moved: bool, silence: Unreachable) -> Iterator[Source]:
    """The file under its lock; one that has moved, all but the last step, for reading only."""
    if has_moved:
        with _locked(path, silence), closing(Source(path, None)) as opened:
            yield opened
        return
    with closing(SqliteStore(path)) as store, closing(Source(path, store)) as opened:
        yield opened


@contextmanager
def _watched(here: Progress) -> Iterator[None]:
    """Show how far it is, while the block runs."""
    with _display() as show:

        def watch() -> None:
            while not here.is_over:
                show(_sentence(here.told()))
                time.sleep(LOOK_S)

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            if not here.is_over:
                here.end(progress.FAILED)
            watcher.join()


# the end


def _tell(told: dict[str, Any], to: str, as_json: bool) -> None:
    if told["phase"] == progress.FAILED:
        raise Failed(told["error"])
    if as_json:
        as_line(told)
        return
    rows = {name: table["rows"] for name, table in told["tables"].items()}
    if told["dry_run"]:
        click.echo(f"{told['from']}: store {told['store_id']}, {sum(rows.values()):,} rows in {len(rows)} tables")
        for name, number in rows.items():
            click.echo(f"  {name:<18} {number:>12,}")
        click.echo(f"{told['to']}: {told['note']}")
        click.echo("it could be moved; nothing was changed (--dry-run)")
        return
    if told["note"]:
        click.echo(told["note"])
    if told["frozen_seconds"] is not None:
        click.echo(f"moved {told['verified_rows']:,} rows to {told['to']} in {told['seconds']:.1f} s; verified")
        click.echo(f"the queue stood still for {told['frozen_seconds']:.2f} s; store {told['store_id']}")
    click.echo(f"now put the database into .env:  DATABASE_URL={for_settings(to)}")
    click.echo(f"{told['from']} is not used any more; no dispatcher starts on it")
