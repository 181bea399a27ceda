"""A disk that is full on command: an SQLite VFS whose files refuse to grow, as a full file system does."""

from typing import Any

import apsw


class FullDisk(apsw.VFS):
    """Passes everything on, until `full` is set: then writes beyond the end of a file fail with SQLITE_FULL."""

    def __init__(self, name: str) -> None:
        self.name, self.full, self.refused = name, False, 0
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  SQLite's name
        return _File(name, flags, self)


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: FullDisk) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  SQLite's name
        if self._disk.full and offset + len(data) > super().xFileSize():
            self._disk.refused += 1
            raise apsw.FullError("the disk is full")
        super().xWrite(data, offset)
