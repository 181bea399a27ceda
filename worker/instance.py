"""The folder of one run of a worker, and the lock that tells whether anything of that run is still alive.

    CACHE_DIR/<worker_id>/<instance_id>/
        lock       held by flock from the folder's first moment; children inherit the descriptor, so whoever
                   obtains the lock knows that the worker and all its children are gone
        outbox/    diskcache, see outbox.py
        spool/     results too large to be sent inside a report
        started    one line for each lease that a child announced: appended without fsync (it must outlive a killed
                   process, not a power cut), rewritten with only the open ones when it grows past 1 MiB
        stores     one line for each store that leases came from
        renewed    further instance ids, when the dispatcher held this instance dead while it lived: it goes on in
                   the same folder, under the same lock, with a new name

The folder is made and locked under a temporary name and then renamed into place, so no sibling ever sees an unlocked
folder of a living instance. A folder that is to go is renamed back to a temporary name first; temporary folders whose
lock is free belong to nobody and are cleaned up. A lock counts only while it is still the file that its path names:
otherwise its folder was dropped or replaced between opening and locking.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from common import file_systems

_ID = re.compile(r"[0-9a-f]{32}")
_TEMPORARY = ".tmp-"
_NOTE_LIMIT = 2**20


class InstanceError(Exception):
    """This cache folder cannot be used; the message says why."""


class Instance:
    """A locked instance folder; ours, or that of a dead one whose lock we obtained."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.lock = lock  # the descriptor that children inherit
        self._stores: set[str] = set()
        self._notes = -1
        self._noted, self._note_limit = 0, _NOTE_LIMIT

    @property
    def worker_id(self) -> str:
        return self.folder.parent.name

    @property
    def outbox(self) -> Path:
        return self.folder / "outbox"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def quarantine(self) -> Path:
        """Lies beside the instances, since they come and go."""
        return self.folder.parent / "quarantine"

    def ids(self) -> list[str]:
        """All instance ids that this folder ran under, the present one last."""
        return [self.folder.name, *_lines(self.folder / "renewed")]

    def renew(self) -> str:
        """Takes and returns a fresh instance id."""
        instance_id = secrets.token_hex(16)
        self._append_durably("renewed", instance_id)
        return instance_id

    def stores(self) -> list[str]:
        return list(dict.fromkeys(_lines(self.folder / "stores")))

    def note_store(self, store_id: str) -> None:
        """Remembers that leases come from this store; cheap after the first time. Raises OSError."""
        if store_id not in self._stores:
            self._stores.add(store_id)
            self._append_durably("stores", store_id)

    def started(self) -> list[str]:
        """The leases noted as started; those that have ended since may be among them."""
        return _lines(self.folder / "started")

    def note_started(self, lease_ids: list[str], open_ones: Callable[[], Iterable[str]]) -> None:
        """Notes that these leases run now; `open_ones` names those to keep when the note has grown too long.

        Called from one thread only.
        """
        text = "".join(f"{lease_id}\n" for lease_id in lease_ids).encode()
        if self._notes < 0:
            self._notes = os.open(self.folder / "started", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._notes, text)
        self._noted += len(text)
        if self._noted > self._note_limit:
            self._rewrite_notes({*open_ones(), *lease_ids})

    def drop(self) -> None:
        """Removes the folder and gives up the lock."""
        gone = self.folder.with_name(_TEMPORARY + secrets.token_hex(16))
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        self.leave()

    def leave(self) -> None:
        """Gives up the lock (once all children have gone too) and leaves the folder for a successor."""
        for descriptor in (self._notes, self.lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._notes = self.lock = -1

    def _rewrite_notes(self, lease_ids: Iterable[str]) -> None:
        text = "".join(f"{lease_id}\n" for lease_id in lease_ids).encode()
        fresh = self.folder / "started.new"
        fresh.write_bytes(text)
        fresh.replace(self.folder / "started")
        os.close(self._notes)
        self._notes, self._noted, self._note_limit = -1, len(text), max(_NOTE_LIMIT, 2 * len(text))

    def _append_durably(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())


def create(cache_dir: Path, worker_id: str) -> Instance:
    """A fresh instance folder, locked; raises InstanceError when the cache folder is not fit for it."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_network_folder(cache_dir)
        home = cache_dir / worker_id
        home.mkdir(exist_ok=True, mode=0o700)
        for folder in (cache_dir, home):
            refuse_open_folder(folder)
        return _create_in(home)
    except OSError as error:
        raise InstanceError(f"cache folder {cache_dir} cannot be used: {error}") from error


def obtain(folder: Path, flags: int = 0) -> Instance | None:
    """The instance of this folder if it is dead and nobody else has it, else None."""
    try:
        if folder.stat().st_uid != os.geteuid():
            return None
        lock = _locked(folder / "lock", flags)
    except OSError:
        return None
    return None if lock is None else Instance(folder, lock)


def folders(cache_dir: Path) -> Iterator[Path]:
    """All instance folders of this host's workers."""
    return (path for path in _grandchildren(cache_dir) if _ID.fullmatch(path.name))


def clean_up(cache_dir: Path) -> None:
    """Removes temporary folders that nobody holds."""
    for folder in _grandchildren(cache_dir):
        # The lock file is made if it is missing, so that a worker which is just about to make it finds it taken.
        if folder.name.startswith(_TEMPORARY) and (instance := obtain(folder, os.O_CREAT)):
            shutil.rmtree(folder, ignore_errors=True)
            instance.leave()


def refuse_network_folder(folder: Path) -> None:
    """Raises InstanceError on a network file system: flock does not tell there who is alive. Linux only."""
    if kind := file_systems.network_kind_of(folder):
        raise InstanceError(
            f"CACHE_DIR={folder} lies on a network file system ({kind}): choose a folder on a local disk"
        )


def refuse_open_folder(folder: Path) -> None:
    """Raises InstanceError when somebody else could plant files in the folder."""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise InstanceError(f"cache folder {folder} belongs to user id {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o002:
        raise InstanceError(
            f"cache folder {folder} is writable for everybody: chmod o-w it or choose another CACHE_DIR"
        )


def _create_in(home: Path) -> Instance:
    while True:
        name = secrets.token_hex(16)
        folder = home / (_TEMPORARY + name)
        folder.mkdir(mode=0o700)
        try:
            lock = _locked(folder / "lock", os.O_CREAT)
            if lock is not None:
                for part in ("outbox", "spool"):
                    (folder / part).mkdir(mode=0o700)
                folder.rename(home / name)
                return Instance(home / name, lock)
        except FileNotFoundError:
            pass  # a sibling took the folder for a stale one before it was locked


def _locked(path: Path, flags: int = 0) -> int | None:
    """A descriptor that holds the lock of this path, or None; raises OSError when there is no such file."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _grandchildren(cache_dir: Path) -> Iterator[Path]:
    for home in _children(cache_dir):
        yield from _children(home)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    """The whole lines of a file that may be missing; a last line without its end was cut and says nothing."""
    try:
        return path.read_text(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []
