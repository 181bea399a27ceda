"""The settings of the dispatcher (`.env.example` is their table), read once into a frozen dataclass."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from common import logs, version
from common.settings import ROOT, Seconds, SettingError, setting
from dispatcher import outward
from dispatcher.model import State
from dispatcher.queue.terms import Terms

VERSION = version.VERSION
BODY_LIMIT = 16 * 2**20
TASK_DATA_LIMIT = 2**20
SHORTEST_SECRET = 16
TEN_YEARS = 10 * 365 * 86400


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """How this dispatcher runs. Lengths of time in seconds, sizes in bytes."""

    host: str = setting("127.0.0.1", name="DISPATCHER_HOST")
    port: int = setting(5000, name="DISPATCHER_PORT", low=0, high=65535)
    token: str = setting("", name="DISPATCHER_TOKEN", secret=True)
    read_token: str = setting("", name="DISPATCHER_READ_TOKEN", secret=True)
    dashboard_read_only: bool = False
    threads: int = setting(1200, name="DISPATCHER_THREADS", low=4, high=20000)
    db_path: Path = ROOT / "data" / "taskmill.db"
    database_url: str = setting("", secret=True)
    database_notify: bool = True
    lease_duration: Seconds = setting(Seconds(120), name="DEFAULT_LEASE_DURATION", low=1, high=TEN_YEARS)
    worker_death_timeout: Seconds = setting(Seconds(60), low=1, high=TEN_YEARS)
    default_max_attempts: int = setting(3, low=1, high=1000)
    result_max_bytes: int = setting(64 * 2**20, low=1024)
    retention_completed: Seconds = setting(Seconds(7 * 86400), high=10 * TEN_YEARS)
    retention_failed: Seconds = setting(Seconds(30 * 86400), high=10 * TEN_YEARS)
    retention_cancelled: Seconds = setting(Seconds(30 * 86400), high=10 * TEN_YEARS)
    webhook_secret: str = setting("", secret=True)
    webhook_url: str = ""
    webhook_allow: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_format: str = "text"

    @property
    def retention_ms(self) -> dict[State, int]:
        """How long ended tasks are kept where their queue says nothing."""
        kept = (self.retention_completed, self.retention_failed, self.retention_cancelled)
        states = (State.COMPLETED, State.FAILED, State.CANCELLED)
        return {state: int(seconds * 1000) for state, seconds in zip(states, kept, strict=True)}

    @property
    def terms(self) -> Terms:
        """What the rules of the queue need of it."""
        lease_ms, silence_ms = int(self.lease_duration * 1000), int(self.worker_death_timeout * 1000)
        hooks = bool(self.webhook_secret), self.webhook_url
        return Terms(lease_ms, silence_ms, self.default_max_attempts, *hooks)


def check(settings: DispatcherSettings, insecure: bool) -> None:
    """Refuse a bind that lets strangers in: any but loopback needs a token, or --insecure."""
    logs.check(settings.log_level, settings.log_format)
    _check_webhooks(settings)
    if settings.database_url and not settings.database_url.startswith(("postgresql://", "postgres://")):
        raise SettingError("DATABASE_URL", "(hidden)", "must start with postgresql:// (unset: the file DB_PATH)")
    _check_tokens(settings)
    if not 0 <= settings.port <= 65535:  # one given on the command line was not checked yet
        raise SettingError("DISPATCHER_PORT", settings.port, "must be from 0 to 65535")
    if not _is_host(settings.host):
        raise SettingError("DISPATCHER_HOST", settings.host, "is not an address or a host name")
    if not settings.token and not insecure and not is_loopback(settings.host):
        reason = "binding any but a loopback address needs DISPATCHER_TOKEN (or --insecure)"
        raise SettingError("DISPATCHER_HOST", settings.host, reason)


def _check_tokens(settings: DispatcherSettings) -> None:
    for name, token in (("DISPATCHER_TOKEN", settings.token), ("DISPATCHER_READ_TOKEN", settings.read_token)):
        if token and not re.fullmatch(r"[!-~]+", token):
            raise SettingError(name, "(hidden)", "must be printable ASCII without spaces")
    if settings.read_token and settings.read_token == settings.token:
        raise SettingError("DISPATCHER_READ_TOKEN", "(hidden)", "must not be DISPATCHER_TOKEN itself")
    if settings.read_token and not settings.token:
        raise SettingError("DISPATCHER_READ_TOKEN", "(hidden)", "says nothing without DISPATCHER_TOKEN")


def _check_webhooks(settings: DispatcherSettings) -> None:
    try:
        outward.key_of(settings.webhook_secret)
    except ValueError as error:
        raise SettingError("WEBHOOK_SECRET", "(hidden)", str(error)) from None
    if 0 < len(settings.webhook_secret) < SHORTEST_SECRET:
        raise SettingError("WEBHOOK_SECRET", "(hidden)", f"must have at least {SHORTEST_SECRET} characters")
    if settings.webhook_url and not settings.webhook_secret:
        raise SettingError("WEBHOOK_URL", settings.webhook_url, "needs WEBHOOK_SECRET")
    if settings.webhook_url and (fault := outward.fault_of(settings.webhook_url)):
        raise SettingError("WEBHOOK_URL", settings.webhook_url, fault)
    try:
        outward.networks(settings.webhook_allow)
    except ValueError as error:
        raise SettingError("WEBHOOK_ALLOW", ",".join(settings.webhook_allow), str(error)) from None


def _is_host(host: str) -> bool:
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
