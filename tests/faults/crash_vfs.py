"""A file system for SQLite that knows what a power cut leaves of it.

`Disk` remembers of every file what was synced and what was done to it since, and of the folder which names were synced.
`Disk.image()` is what the medium may hold after a cut at this moment: the synced bytes and, of the unsynced writes and
truncations, any subset, some of them torn. The subset is laid down in the order of the calls: a page cache holds one
version of each byte, so an older write never replaces a newer one; every other order gives one of these images.

The rules are those of POSIX and of SQLite's own VFS (os_unix.c), below which this one cannot look:
- a sync makes the data of one file durable, not its name; names become durable with their folder, which is synced by
  xDelete(syncDir) and by the first sync of a journal or WAL that was opened with CREATE;
- a torn write leaves of each 512-byte sector the old bytes, the new ones, part of both, or rubbish, but touches nothing
  outside of what was written (SQLITE_IOCAP_POWERSAFE_OVERWRITE, which os_unix.c declares).

The running system works on real files in `folder` (a tmpfs, if there is one) through the "unix" VFS; nothing is really
synced. One thread at a time may write through it, which is what the store does.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)  # of the unsynced changes that reached the medium
TORN = 0.2
JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL

Change = tuple[int, bytes | None]  # a write at an offset; None: a truncation to that size
Image = Mapping[str, bytes]


class _File:
    """The content of one file, whatever its names."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = bytearray(synced)
        self.unsynced: list[Change] = []

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _lay(self.synced, offset, data)
        self.unsynced.clear()

    def after_cut(self, rng: Random, share: float) -> bytes:
        content = bytearray(self.synced)
        last = len(self.unsynced) - 1
        for place, (offset, data) in enumerate(self.unsynced):
            if rng.random() >= share:
                continue
            if data is not None and rng.random() < (0.5 if place == last else TORN):
                data = b"".join(_torn(rng, bytes(content[offset : offset + len(data)]), data, offset))
            _lay(content, offset, data)
        return bytes(content)


def _lay(content: bytearray, offset: int, data: bytes | None) -> None:
    size = offset if data is None else offset + len(data)
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:size] = data


def _torn(rng: Random, old: bytes, new: bytes, offset: int) -> Iterable[bytes]:
    """The sectors of a torn write; those that it covers in part only up to its ends."""
    old = old.ljust(len(new), b"\0")
    begin = 0
    while begin < len(new):
        end = min(len(new), begin + SECTOR - (offset + begin) % SECTOR)
        kept = rng.choices((begin, end, rng.randint(begin, end), None), (4, 4, 2, 1))[0]
        yield rng.randbytes(end - begin) if kept is None else new[begin:kept] + old[kept:end]
        begin = end


class Disk:
    """One folder on a medium that may lose its power at any moment; `on_event(kind, name)` hears of each change."""

    def __init__(self, folder: Path, image: Image, on_event: Callable[[str, str], None]) -> None:
        self.folder, self.on_event = folder, on_event
        self._names = {name: _File(content) for name, content in image.items()}
        self._synced_names = dict(self._names)
        self._unsynced_names: list[tuple[str, _File | None]] = []
        lay_out(folder, image)

    def image(self, rng: Random) -> dict[str, bytes]:
        """What the medium holds if the power is cut now."""
        names, share = dict(self._synced_names), rng.choice(SHARES)
        for name, file in self._unsynced_names:
            if rng.random() < share:
                _point(names, name, file)
        return {name: file.after_cut(rng, share) for name, file in names.items()}

    # what the VFS tells
    def opened(self, name: str) -> None:
        if name not in self._names:
            self._rename(name, _File())
            self.on_event("create", name)

    def changed(self, name: str, offset: int, data: bytes | None) -> None:
        self._names[name].unsynced.append((offset, data))
        self.on_event("truncate" if data is None else "write", name)

    def synced(self, name: str, folder_too: bool) -> None:
        self.on_event("sync", name)  # the cut comes before it is done
        self._names[name].sync()
        if folder_too:
            self.on_event("sync folder", name)
            self._sync_folder()

    def deleted(self, name: str, sync_folder: bool) -> None:
        self._rename(name, None)
        self.on_event("delete", name)
        if sync_folder:
            self._sync_folder()

    def _rename(self, name: str, file: _File | None) -> None:
        self._unsynced_names.append((name, file))
        _point(self._names, name, file)

    def _sync_folder(self) -> None:
        self._synced_names = dict(self._names)
        self._unsynced_names.clear()


def _point(names: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def lay_out(folder: Path, image: Image) -> None:
    """Make the folder hold these files and no others."""
    for name in os.listdir(folder):
        if name not in image:
            os.unlink(folder / name)
    for name, content in image.items():
        (folder / name).write_bytes(content)


class CrashVFS(apsw.VFS):
    """SQLite's way to a Disk."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        super().__init__(name, base="unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _CrashFile(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, False)
        self.disk.deleted(os.path.basename(filename), syncdir)


class _CrashFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None, "a temporary file: the store keeps those in memory"
        self._disk, self._name = disk, os.path.basename(path)
        self._sync_folder = bool(flags[0] & JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("unix", name, flags)
        disk.opened(self._name)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._disk.changed(self._name, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.changed(self._name, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.synced(self._name, self._sync_folder)
        self._sync_folder = False
