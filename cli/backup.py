"""`taskmill backup FILE`: a consistent copy of the queue, asked of the running dispatcher.

When none answers and none holds the database file, the file is copied here, under the dispatcher's lock.
"""

import hashlib
import os
import secrets
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import apsw
import click
from rich.console import Console

from cli import files, show
from cli.errors import USAGE, Failed
from cli.options import asking, examples
from client import config, urls
from client.errors import BadReply, Unreachable
from client.failover import Failover, connect
from client.transport import Transport
from common.paths import named
from common.settings import environment, load
from dispatcher.config import DispatcherSettings
from dispatcher.errors import InUse
from dispatcher.store.sqlite import backup, opening

PIECE_TIMEOUT = 60.0  # seconds; the dispatcher says within 20 that a copy takes longer


@click.command(epilog=examples("backup /backups/queue-monday.db", "backup --force /backups/queue.db --json"))
@click.argument("file", metavar="FILE")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@asking
def command(file: str, force: bool, as_json: bool, url: str | None) -> None:
    """Copy the queue into FILE, while the dispatcher goes on.

    The copy is of one moment and holds everything that was acknowledged when it was asked for. It is verified, and
    stands under its name only when it is whole.
    """
    began, target = time.monotonic(), named(file)
    files.check_target(target, force)
    _refuse_the_queue_itself(target)
    with files.becoming(target) as (path, out):
        source = _fill(path, out, url)
        os.fsync(out.fileno())
        found = backup.inspect(path)
        if not found.sealed:
            raise Failed(f"what came from {source} is no whole backup: its seal is missing")
    seconds = time.monotonic() - began
    if as_json:
        told = {"file": str(target), "bytes": found.bytes, "tasks": found.tasks, "source": source}
        show.as_json({**told, "store_id": found.store_id, "seconds": round(seconds, 3)})
        return
    click.echo(f"{target}: {found.bytes:,} bytes, {show.contents(found)}, in {seconds:.1f} s")
    click.echo(f"copied from {source}, store {found.store_id}; verified")


def _refuse_the_queue_itself(target: Path) -> None:
    database = load(DispatcherSettings, environment()).db_path
    if target.resolve() == database.resolve():
        raise Failed(f"{target} is the queue itself (DB_PATH): name another file", USAGE)


def _fill(path: Path, out: BinaryIO, url: str | None) -> str:
    """Write a sealed copy; where it comes from."""
    given = config.load()
    line = connect(urls.listed(url) if url else urls.of_setting(given.dispatcher_url), given.dispatcher_token or None)
    with closing(line), Console(stderr=True).status("copying …"):
        try:
            _download(line, out)
        except Unreachable as silence:
            if url:
                raise
            return _copy(path, out, silence)
    return line.url


def _download(line: Transport | Failover, out: BinaryIO) -> None:
    """Ask under one name until the copy is made, then take it."""
    name = secrets.token_hex(8)
    while True:
        with line.stream(f"/backup?copy={name}", timeout=PIECE_TIMEOUT) as stream:
            pieces = iter(stream)
            if stream.media_type.startswith("application/json"):  # it is being made
                b"".join(pieces)
                continue
            digest = hashlib.sha256()
            out.seek(0)
            for piece in pieces:
                out.write(piece)
                digest.update(piece)
            out.flush()
            if digest.hexdigest() != stream.headers.get("Taskmill-Sha256"):
                raise BadReply(line.url, "the backup did not arrive as it was sent (sha256 differs)")
            return


def _copy(path: Path, out: BinaryIO, silence: Unreachable) -> str:
    """No dispatcher answers: copy the file at DB_PATH, unless one holds it all the same."""
    settings = load(DispatcherSettings, environment())
    database = settings.db_path
    if settings.database_url or not database.exists():
        raise silence
    out.truncate(0)
    try:
        lock = opening.lock(database)
    except InUse:
        raise Failed(f"a dispatcher holds {database} but does not answer: {silence.reason} ({silence.url})") from None
    try:
        sys.stderr.write(f"taskmill: {silence}; copying {database} itself\n")
        with closing(opening.open_reader(database)) as source:
            backup.write(source, path, out, lambda share: None)
    except apsw.Error as error:
        raise Failed(f"{database} cannot be copied: {error}") from None
    finally:
        os.close(lock)
    return str(database)
