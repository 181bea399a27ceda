"""The worker's durable store of report batches without a definitive verdict (invariant I7).

An entry is one report batch, durable before it is first sent. It leaves when each of its outcomes has a definitive
verdict in a well-formed reply; a rest is rewritten. It never leaves by its age, its number or an HTTP status: entries
that were *answered* with refusals for CACHE_TTL_SECONDS move to `quarantine/`, where they are kept and counted. Only
time between two answered refusals counts, so nothing ages while the dispatcher is unreachable. What is damaged on disk
moves to quarantine alone; a database that is corrupt as a whole is moved there with what it has, and its readable
entries go on in a fresh one.

An entry's value is `<sha256 of the rest>\n<header as JSON>\n<outcome>\n<outcome>…`; a newline cannot stand inside an
outcome's JSON except between tokens, where a blank does as well. Keys are rising numbers: the order of keys is the
order of arrival. An outcome with a spool file (a result too large for the report) is an entry of its own.

One thread owns an Outbox. Removals of settled entries ride on the next write, or on `sweep` when there is none:
a crash between costs a repeated report, which is answered `duplicate`.
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import json_profile
from worker.children.outcomes import as_object
from worker.disk import Damaged, Database, OddKey
from worker.model import Outcome
from worker.quarantine import Quarantine

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Entry:
    """One report batch. `lines` are its outcomes as JSON, newline between them: kept in memory until first sent."""

    outbox: "Outbox"
    key: bytes
    lease_ids: list[str]
    spool: Path | None = None
    refused_seconds: float = 0.0  # time between answered refusals so far
    lines: bytes = b""
    size: int = 0


class Outbox:
    """The entries in one folder. Raises disk.DISK_FAULTS when the disk does not serve now."""

    def __init__(self, folder: Path, quarantine: Quarantine) -> None:
        self._folder, self._quarantine = folder, quarantine
        self.entries: dict[bytes, Entry] = {}  # oldest first
        self.leases: list[tuple[str, str, int]] = []  # (lease_id, store_id, task_id) found on opening
        self.size = 0  # bytes of all entries and their spool files
        self._last = 0
        self._settled: list[bytes] = []
        self._database: Database | None = None
        self._open()

    def put(self, outcomes: Sequence[Outcome]) -> Entry:
        """One durable entry for these outcomes."""
        spool = outcomes[0].spool  # safe on disk already: its child saw to that
        lines = "\n".join([one.body.replace("\n", " ") if "\n" in one.body else one.body for one in outcomes])
        key = b"%016d" % (self._last + 1)
        # Text that is no UTF-8 is not of our profile; one odd character beats an outbox that stands still.
        entry = Entry(self, key, [one.lease_id for one in outcomes], spool, lines=lines.encode(errors="replace"))
        self._write(entry)
        self._last += 1
        return entry

    def lines(self, entry: Entry) -> bytes:
        """The outcomes of an entry; one that turns out damaged goes to quarantine and has none."""
        if not entry.lines:
            try:
                entry.lines = _opened(self._db.value(entry.key))[1]
            except Damaged as damage:
                self._forget(entry)
                self._put_aside(entry.key, damage)
        return entry.lines

    def settle(self, entry: Entry) -> None:
        """All its outcomes have a definitive verdict."""
        self._forget(entry)
        self._settled.append(entry.key)
        if entry.spool:
            entry.spool.unlink(missing_ok=True)

    def split(self, entry: Entry) -> Entry:
        """Makes two entries of one, so that a batch which is refused as a whole shows which outcome is to blame; the
        new one."""
        lines, half = self.lines(entry).split(b"\n"), len(entry.lease_ids) // 2
        key = b"%016d" % (self._last + 1)
        other = Entry(self, key, entry.lease_ids[half:], lines=b"\n".join(lines[half:]))
        self._write(other)
        self._last += 1
        self.keep(entry, range(half))
        return other

    def keep(self, entry: Entry, rest: Iterable[int]) -> None:
        """Only the outcomes at these places remain."""
        places, lines = list(rest), self.lines(entry).split(b"\n")
        entry.lines = b"\n".join([lines[place] for place in places])
        entry.lease_ids = [entry.lease_ids[place] for place in places]
        self._write(entry)

    def age(self, entry: Entry, seconds: float) -> None:
        """Adds time between answered refusals, durably."""
        if self.lines(entry):
            entry.refused_seconds += seconds
            self._write(entry)

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Moves an entry out of the line, to be kept and shown."""
        outcomes = [as_object(json.loads(line)) for line in self.lines(entry).split(b"\n") if line]
        if outcomes:
            self._quarantine.keep(entry.key, {"reason": reason, "outcomes": outcomes}, entry.spool)
        self.settle(entry)
        self.sweep()

    def sweep(self) -> None:
        """Removes settled entries from the disk now."""
        if self._settled:
            self._change({})

    def waiting(self) -> int:
        """How many outcomes wait."""
        return sum(len(entry.lease_ids) for entry in self.entries.values())

    def reopen(self) -> None:
        """After a DatabaseError: saves what can be read into a fresh database; all former entries are void."""
        self.close()
        self.entries, self.leases, self.size = {}, [], 0
        self._open()

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    # Reading

    @property
    def _db(self) -> Database:
        assert self._database is not None, "opened by the constructor"
        return self._database

    def _open(self) -> None:
        try:
            self._database = Database(self._folder)
            self._read()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._start_afresh(error)
        self.entries = dict(sorted(self.entries.items()))
        self._last = max([self._last, *map(int, self.entries)])  # never a number that is to be removed yet

    def _read(self) -> None:
        for key in [key for key in self._db.stored() if key not in self._settled]:
            try:
                self._admit(key, self._db.value(key))
            except Damaged as damage:
                self._put_aside(key, damage)

    def _admit(self, key: bytes | OddKey, value: bytes) -> None:
        header, lines = _opened(value)
        if isinstance(key, OddKey) or not key.isdigit():
            raise Damaged("its key is not a number", value)
        leases = [_lease(line) for line in lines.split(b"\n")]
        spool = self._folder.parent / "spool" / header["spool"] if header["spool"] else None
        self._count(Entry(self, key, [lease[0] for lease in leases], spool, header["refused"]), len(value))
        self.leases += leases

    def _start_afresh(self, error: Exception) -> None:
        readable = self._salvage()
        self.close()
        place = self._quarantine.move_database(self._folder)
        log.error("the outbox was corrupt (%s): moved to %s, %d entries saved", error, place, len(readable))
        self._database = Database(self._folder)
        self._database.change(readable, [])
        self.entries, self.leases, self.size = {}, [], 0
        self._read()

    def _salvage(self) -> dict[bytes, bytes]:
        readable: dict[bytes, bytes] = {}
        keys = self._database.readable() if self._database else set()
        for key in keys.difference(self._settled):
            with suppress(sqlite3.DatabaseError, Damaged):
                _opened(value := self._db.value(key))
                readable[key] = value
        self._settled = []
        return readable

    # Writing

    def _write(self, entry: Entry) -> None:
        header = {"refused": entry.refused_seconds, "spool": entry.spool.name if entry.spool else None}
        value = _sealed(header, entry.lines)
        self._change({entry.key: value})
        self._count(entry, len(value))

    def _change(self, values: dict[bytes, bytes]) -> None:
        self._db.change(values, self._settled)
        self._settled = []

    def _count(self, entry: Entry, length: int) -> None:
        if self.entries.get(entry.key):
            self.size -= entry.size
        self.entries[entry.key] = entry
        entry.size = length + (entry.spool.stat().st_size if entry.spool and entry.spool.exists() else 0)
        self.size += entry.size

    def _forget(self, entry: Entry) -> None:
        if self.entries.pop(entry.key, None):
            self.size -= entry.size

    def _put_aside(self, key: bytes | OddKey, damage: Damaged) -> None:
        name = self._quarantine.keep_damaged(key, damage)
        self._db.discard(key)
        log.error("an outbox entry is damaged (%s): moved to %s", damage.reason, name)


def _sealed(header: dict[str, Any], lines: bytes) -> bytes:
    content = json.dumps(header).encode() + b"\n" + lines
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _opened(value: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and outcomes; raises Damaged."""
    checksum, _, content = value.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise Damaged("its checksum is wrong", value)
    header, _, lines = content.partition(b"\n")
    try:
        fields = json.loads(header)
        refused, spool = float(fields["refused"]), fields["spool"]
        if spool is not None and (spool != Path(spool).name or spool in ("", "..")):
            raise ValueError(f"{spool!r} is not a file name")
        return {"refused": refused, "spool": spool}, lines
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its header is odd: {error}", value) from None


def _lease(line: bytes) -> tuple[str, str, int]:
    try:
        outcome = json_profile.parse(line)
        if isinstance(outcome, list):
            store_id, task_id, lease_id, *_ = outcome
            return str(lease_id), str(store_id), int(task_id)
        return str(outcome["lease_id"]), str(outcome["store_id"]), int(outcome["task_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"not an outcome: {error}", line) from None
