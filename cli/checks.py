"""What `taskmill doctor` looks at: each check is a function that yields findings, and only reads."""

import fcntl
import json
import os
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from cli.show import span
from client import config, urls
from client.errors import Refused, TransportError
from client.transport import Transport
from common import file_systems
from common.places import DISPATCHER, OPERATOR, WORKER
from common.settings import SettingError, environment, load
from dispatcher import config as dispatcher_config
from dispatcher.config import VERSION, DispatcherSettings
from dispatcher.errors import CannotOpen
from dispatcher.store.sqlite import backup, opening
from dispatcher.store.sqlite.migrations import steps
from worker import config as worker_config
from worker import instance
from worker.config import WorkerSettings

OK, WARN, FAIL = "ok", "warn", "fail"
PATIENCE = 5.0  # seconds for one answer
CLOCK_WARN, CLOCK_FAIL = 5.0, 60.0
WAIT_WARN = 60.0
GIB = 2**30
DISK_FAIL, DISK_WARN = GIB // 8, 2 * GIB
WAL_WARN = GIB // 4
LOOK_S = 10.0  # for the pages of a file; a large one is not read to its end
RESTORE = f"{OPERATOR} restore a backup"
CHECKED = f"{OPERATOR} backup FILE reads all of it, and checks its copy"
SOUND = (3, 51, 3)
ALSO_SOUND = ((3, 50, 7), (3, 44, 6))


class Finding(NamedTuple):
    """One row: what was looked at, how it is, what was found, what to do about it."""

    name: str
    state: str
    found: str
    remedy: str = ""


class Settings(NamedTuple):
    """Those that could be read; the default stands in for the rest."""

    dispatcher: DispatcherSettings
    worker: WorkerSettings
    urls: tuple[str, ...]
    token: str | None


# settings


def settings() -> tuple[Settings, list[Finding]]:
    """The settings, and a finding for each part that does not parse."""
    values, faults = environment(), []
    mine, theirs, given = DispatcherSettings(), WorkerSettings(), config.ClientSettings()
    addresses = given.dispatcher_url
    try:
        mine = load(DispatcherSettings, values)
        dispatcher_config.check(mine, insecure=False)
    except SettingError as error:
        faults.append(Finding("settings", FAIL, f"dispatcher: {error}", "correct it in .env or the environment"))
    try:
        theirs = worker_config.read({})
    except SettingError as error:
        faults.append(Finding("settings", FAIL, f"worker: {error}", "correct it in .env or the environment"))
    with suppress(SettingError):  # the worker's settings hold the same, and said so
        given = config.load()
        addresses = urls.of_setting(given.dispatcher_url)
    found = Settings(mine, theirs, addresses, given.dispatcher_token or None)
    return found, faults or [Finding("settings", OK, "all can be read")]


# the dispatcher


class Seen(NamedTuple):
    """What a dispatcher said."""

    health: dict[str, Any]
    stats: dict[str, Any] | None
    ahead: float | None  # seconds that its clock is before ours
    integrity: Finding | None = None  # of its file


def dispatcher(url: str, token: str | None) -> tuple[Seen | None, list[Finding]]:
    """Whether it can be reached, is ready, and is of this version."""
    try:
        with closing(Transport(url, token)) as line:
            health, ahead = _health(line)
            stats = line.call("GET", "/stats", timeout=PATIENCE)
            whole = _integrity_there(line) if "wal_bytes" in health else None
    except Refused as error:
        return None, [_refusal(url, error)]
    except (TransportError, ValueError) as error:
        return None, [Finding("dispatcher", FAIL, str(error), f"{DISPATCHER}, or set DISPATCHER_URL")]
    return Seen(health, stats, ahead, whole), list(_presence(url, health))


def _health(line: Transport) -> tuple[dict[str, Any], float | None]:
    asked = time.time()
    with line.stream("/health", timeout=PATIENCE) as stream:
        told = json.loads(b"".join(stream))
        date = stream.headers.get("Date")
    if not isinstance(told, dict) or told.get("service") != "dispatcher":
        raise ValueError(f"{line.url} is no dispatcher")
    half_way = (asked + time.time()) / 2
    # the header has whole seconds, cut off
    return told, parsedate_to_datetime(date).timestamp() + 0.5 - half_way if date else None


def _integrity_there(line: Transport) -> Finding | None:
    """As a dispatcher sees its file; None: it is older than that, or this token may not ask."""
    try:
        told = line.call("GET", "/integrity", timeout=LOOK_S + PATIENCE)
        return _integrity(
            "the dispatcher's file", told["found"] if told["whole"] is not None else None, told["seconds"]
        )
    except (TransportError, KeyError, TypeError):
        return None


def _refusal(url: str, error: Refused) -> Finding:
    remedy = "set the same DISPATCHER_TOKEN here as there" if error.status == 401 else "look at its log"
    return Finding("dispatcher", FAIL, f"{url}: {error}", remedy)


def _presence(url: str, health: dict[str, Any]) -> Iterator[Finding]:
    version = health.get("version", "?")
    if not health.get("ready"):
        yield Finding("dispatcher", FAIL, f"{url} cannot write to its store", "look at its log: is its disk full?")
    elif version != VERSION:
        yield Finding(
            "dispatcher", WARN, f"{url} is version {version}, this is {VERSION}", "restart it after an upgrade"
        )
    else:
        yield Finding("dispatcher", OK, f"{url} is ready, version {version}, up {span(health['uptime_seconds'])}")


def clocks(seen: Seen) -> Iterator[Finding]:
    """Wall clocks do no harm to leases, but run_at and all times shown go by the dispatcher's."""
    if seen.ahead is None:
        return
    off = max(abs(seen.ahead) - 0.5, 0.0)
    state = OK if off < CLOCK_WARN else WARN if off < CLOCK_FAIL else FAIL
    way = "before" if seen.ahead > 0 else "behind"
    told = (
        f"the dispatcher's is {off:.0f} s {way} this machine's"
        if state != OK
        else "this machine's and the dispatcher's agree"
    )
    yield Finding("clock", state, told, "" if state == OK else "set both by NTP")


# the store


def sqlite(seen: Seen | None, database: Path | None) -> Iterator[Finding]:
    """Old versions of SQLite can lose commits; a file of a newer schema cannot be opened."""
    version = seen.health.get("sqlite_version") if seen else apsw.sqlite_lib_version() if database else None
    if version:
        sound = is_sound(version)
        remedy = "" if sound else "./setup_venv.sh installs a newer apsw"
        yield Finding(
            "sqlite", OK if sound else FAIL, f"version {version}" + ("" if sound else ", needs 3.51.3"), remedy
        )
    if seen is None and database and database.exists():
        yield from _file(database)
    elif seen and "wal_bytes" in seen.health:
        yield _wal(seen.health["wal_bytes"])
        yield seen.integrity or Finding("integrity", OK, "not looked at: that needs the full token", CHECKED)


def _wal(size: int) -> Finding:
    """It is written back into the file again and again, unless something holds an old moment of it."""
    if size < WAL_WARN:
        return Finding("wal", OK, f"{size / 2**20:,.1f} MiB")
    remedy = "it shrinks when the dispatcher is restarted; does a program of others read the file, or a backup hang?"
    return Finding("wal", WARN, f"{size / 2**20:,.0f} MiB, which slows every read", remedy)


def is_sound(version: str) -> bool:
    """Whether this SQLite is free of the WAL-reset race."""
    number = tuple(int(part) for part in version.split(".")[:3])
    return number >= SOUND or any(number[:2] == one[:2] and number >= one for one in ALSO_SOUND)


def _file(database: Path) -> Iterator[Finding]:
    """Of a file that no dispatcher holds; one that runs has seen to its schema."""
    try:
        lock = opening.lock(database)
    except CannotOpen as error:
        yield Finding(
            "database",
            WARN,
            f"{error}, which could not be asked",
            "are DISPATCHER_URL and DISPATCHER_TOKEN that dispatcher's?",
        )
        return
    try:
        with closing(backup.open_backup(database)) as db:
            yield _schema(database, int(db.pragma("user_version")))
            yield _integrity(database, opening.examined(db, LOOK_S), LOOK_S)
    except apsw.Error as error:
        yield Finding("database", FAIL, f"{database}: {error}", RESTORE)
    finally:
        os.close(lock)


def _schema(database: Path, schema: int) -> Finding:
    newest = steps()[-1][0]
    if schema > newest:
        return Finding("database", FAIL, f"{database} has schema {schema}, this program {newest}", "upgrade Taskmill")
    return Finding("database", OK, f"{database} has schema {schema}")


def _integrity(place: Path | str, found: str | None, seconds: float) -> Finding:
    """Whether the pages are whole, of a file here or a dispatcher's."""
    if found is None:
        return Finding("integrity", WARN, f"{place} was not read to its end in {seconds:.0f} s", CHECKED)
    sound = found == "ok"
    return Finding("integrity", OK if sound else FAIL, f"{place}: {found}", "" if sound else RESTORE)


def disks(places: Iterable[tuple[str, Path]]) -> Iterator[Finding]:
    """Room, and a file system whose locks can be trusted."""
    for name, path in places:
        folder = next(one for one in (path, *path.resolve().parents) if one.is_dir())
        usage = shutil.disk_usage(folder)
        state = FAIL if usage.free < DISK_FAIL else WARN if usage.free < DISK_WARN else OK
        remedy = "" if state == OK else f"make room, or move {name}"
        yield Finding("disk", state, f"{usage.free / GIB:,.1f} GiB free for {name} ({folder})", remedy)
        if kind := file_systems.network_kind_of(folder):
            yield Finding(
                "disk", FAIL, f"{name} lies on a network file system ({kind})", f"move {name} to a local disk"
            )


# work


def workers(stats: dict[str, Any]) -> Iterator[Finding]:
    """Whether somebody takes what waits."""
    alive = [one for one in stats["workers"] if one["status"] == "alive"]
    busy = sum(1 for one in alive if one["leases"])
    waiting, oldest = stats["ready_tasks"], stats["oldest_waiting_seconds"] or 0.0
    told = f"{len(alive)} alive, {busy} busy; {waiting:,} tasks ready"
    told += f", the oldest for {span(oldest)}" if waiting else ""
    if waiting and not alive:
        yield Finding("workers", FAIL, told, f"{WORKER} NAME")
    elif not alive:
        yield Finding("workers", WARN, told, f"{WORKER} NAME before there is work")
    elif waiting and oldest > WAIT_WARN and busy < len(alive):
        kinds = ", ".join(
            sorted({f"{one['task_type']} in {one['queue']}" for one in stats["queues"] if one.get("ready")})
        )
        remedy = "see WORKER_TASK_TYPES, WORKER_QUEUES and WORKER_LABELS of the workers"
        yield Finding("workers", WARN, f"{told}, while workers are idle: {kinds[:200]}", remedy)
    elif waiting and oldest > WAIT_WARN:
        yield Finding("workers", WARN, told, "start more workers")
    else:
        yield Finding("workers", OK, told)


def versions(seen: Seen) -> Iterator[Finding]:
    """Neighbouring versions work together; what is new works where all have it."""
    mine = seen.health.get("version", "?")
    others: dict[str, set[str]] = {}
    for one in (seen.stats or {}).get("workers", ()):
        if one["status"] == "alive" and one.get("version") not in (None, mine):
            others.setdefault(one["version"], set()).add(one["worker_id"])
    for version, names in sorted(others.items()):
        some = ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "")
        yield Finding("versions", WARN, f"{some}: version {version}, the dispatcher has {mine}", "restart the older")
    if not others:
        yield Finding("versions", OK, f"all living workers have the dispatcher's, {mine}")


def outboxes(cache_dir: Path) -> Iterator[Finding]:
    """Outcomes on this host that no living worker delivers."""
    if not cache_dir.is_dir():
        yield Finding("outboxes", OK, f"no worker has run here (no {cache_dir})")
        return
    left = [path for path in instance.folders(cache_dir) if _undelivered(path)]
    for path in left:
        told = f"{_undelivered(path)} reports of a worker that is gone wait in {path}"
        yield Finding("outboxes", WARN, told, "start a worker here: it delivers them")
    if not left:
        yield Finding("outboxes", OK, "nothing is left by workers that are gone")
    kept = {path: _count(path) for path in sorted(cache_dir.glob("*/quarantine"))}
    for path, number in kept.items():
        if number:
            yield Finding(
                "quarantine", WARN, f"{number} outcomes were set aside in {path}", "read why, then remove them"
            )
    if not any(kept.values()):
        yield Finding("quarantine", OK, "empty")


def _undelivered(folder: Path) -> int:
    """How many report batches lie in the outbox of a dead instance; its lock is held while it is read."""
    database = folder / "outbox" / "cache.db"
    with suppress(OSError, apsw.Error), (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # taken: its worker lives, and sees to it
        flags = apsw.SQLITE_OPEN_READONLY
        with closing(apsw.Connection(str(database), flags=flags)) as db:
            return int(db.execute("SELECT count(*) FROM Cache").get)
    return 0


def _count(folder: Path) -> int:
    with suppress(OSError):
        names = [path.name for path in folder.iterdir()]
        return sum(n.endswith(".json") or (n.startswith("cache.db.corrupt-") and not n.endswith("-wal")) for n in names)
    return 0


# the machine


def limits(threads: int) -> Iterator[Finding]:
    """Each request that waits holds a thread, each connection a descriptor."""
    hard = _limit(resource.RLIMIT_NOFILE)
    state = OK if hard >= threads + 512 else WARN
    remedy = "" if state == OK else "raise `ulimit -Hn`, or lower DISPATCHER_THREADS"
    yield Finding("limits", state, f"{_number(hard)} open files for {threads} threads", remedy)
    if hasattr(resource, "RLIMIT_NPROC") and (processes := _limit(resource.RLIMIT_NPROC)) < threads + 64:
        remedy = "raise `ulimit -u`, or lower DISPATCHER_THREADS"
        yield Finding("limits", WARN, f"{processes:g} threads and processes for {threads} threads", remedy)


def _limit(which: int) -> float:
    hard = resource.getrlimit(which)[1]
    return float("inf") if hard == resource.RLIM_INFINITY else hard


def _number(limit: float) -> str:
    return "any number of" if limit == float("inf") else f"{limit:,.0f}"
