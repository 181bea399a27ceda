"""The settings of a worker (`.env.example` is their table), read once into a frozen dataclass."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client import urls
from common import logs, version
from common.handlers import folders
from common.settings import ROOT, Seconds, SettingError, environment, load, setting

VERSION = version.VERSION
INLINE_RESULT_BYTES = 256 * 1024  # a larger result is put raw (docs/protocol.md)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.:-]")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How this worker runs. Lengths of time in seconds, sizes in bytes, an empty tuple means: all."""

    dispatcher_url: tuple[str, ...] = (urls.DEFAULT,)  # several stand before one store
    dispatcher_token: str = setting("", secret=True)
    worker_id: str = socket.gethostname()
    worker_concurrency: int = setting(_cores(), low=1, high=1000)
    worker_min: int = setting(0, low=0, high=1000)  # 0: as many as there may be
    worker_max: int = setting(0, low=0, high=1000)  # 0: worker_concurrency
    worker_idle_seconds: Seconds = setting(Seconds(60.0), low=0.1)
    worker_memory_mb: int = setting(0, low=0, high=2**24)  # 0: no limit but a task's own
    worker_queues: tuple[str, ...] = ()
    worker_task_types: tuple[str, ...] = ()
    worker_labels: tuple[str, ...] = ()
    tasks_path: str = ""
    worker_poll_interval: Seconds = setting(Seconds(5.0), low=0.05)
    worker_heartbeat_interval: Seconds = setting(Seconds(30.0), low=0.1)
    worker_drain_seconds: Seconds = setting(Seconds(0.0), low=0)  # 0: running tasks may take as long as they need
    cache_dir: Path = ROOT / "cache"
    cache_ttl_seconds: Seconds = setting(Seconds(3600.0), low=1)
    cache_retry_interval: Seconds = setting(Seconds(20.0), low=0.05)
    cache_max_bytes: int = setting(2**30, low=2**20)
    result_max_bytes: int = setting(64 * 2**20, low=1024)
    log_level: str = "INFO"
    log_format: str = "text"

    @property
    def most(self) -> int:
        """How many tasks run at a time at most."""
        return self.worker_max or self.worker_concurrency

    @property
    def least(self) -> int:
        """How many children there are even without work."""
        return self.worker_min or (1 if self.worker_max else self.worker_concurrency)

    def labels(self) -> list[str]:
        """What this worker has to offer: its labels, and the name of its host."""
        host = _NO_NAME.sub("-", socket.gethostname())[:100]
        return list(dict.fromkeys((*self.worker_labels, f"host:{host}")))

    def task_paths(self) -> tuple[Path, ...]:
        """The folders with handlers: `tasks/`, then those of TASKS_PATH in their order."""
        return folders.task_paths(self.tasks_path)


def read(given: Mapping[str, str | None]) -> WorkerSettings:
    """The settings of the environment and `.env`; those given by name win. Raises SettingError for a bad value."""
    settings = load(WorkerSettings, {**environment(), **{name: text for name, text in given.items() if text}})
    urls.of_setting(settings.dispatcher_url)
    _check_names(settings)
    if settings.least > settings.most:
        raise SettingError("WORKER_MIN", settings.least, f"is above the most children there may be, {settings.most}")
    logs.check(settings.log_level, settings.log_format)
    return settings


def _check_names(settings: WorkerSettings) -> None:
    named = {
        "WORKER_ID": (settings.worker_id,),
        "WORKER_QUEUES": settings.worker_queues,
        "WORKER_TASK_TYPES": settings.worker_task_types,
        "WORKER_LABELS": settings.worker_labels,
    }
    for name, values in named.items():
        for value in values:
            if not _NAME.fullmatch(value) or value in (".", ".."):
                raise SettingError(name, value, "a name is 1 to 128 of A-Z a-z 0-9 _ . : -")
