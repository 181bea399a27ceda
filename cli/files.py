"""Files that appear whole or not at all."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cli.errors import USAGE, Failed
from common import durable


def check_target(target: Path, force: bool) -> None:
    """Refuse a place where no file can come to stand."""
    if target.is_dir():
        raise Failed(f"{target} is a folder: name a file in it", USAGE)
    if not target.parent.is_dir():
        raise Failed(f"there is no folder {target.parent}", USAGE)
    if target.exists() and not force:
        raise Failed(f"{target} exists: name another file, or replace it with --force", USAGE)


@contextmanager
def becoming(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside the target, which takes its place, durably, when the block ends well, and vanishes when not."""
    _sweep(target)
    path = target.with_name(f"{target.name}.part-{secrets.token_hex(4)}")
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # says that somebody is at it
        try:
            yield path, file
            file.flush()
            os.fsync(file.fileno())
            path.replace(target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    fsync_folder(target.parent)


def _sweep(target: Path) -> None:
    """Remove what a run that was killed has left of this target."""
    for path in target.parent.iterdir():
        if not path.name.startswith(f"{target.name}.part-"):
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    with suppress(OSError):
        durable.sync(folder)
