"""The settings that a client reads (`.env.example` is their table)."""

from dataclasses import dataclass

from client import urls
from common import settings


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the dispatcher is and how to be let in; empty text stands for unset."""

    dispatcher_url: tuple[str, ...] = (urls.DEFAULT,)  # several stand before one store
    dispatcher_token: str = settings.setting("", secret=True)
    tasks_path: str = ""  # for those who run handlers themselves
    primes_max_limit: int = settings.setting(100_000_000, low=0)
    primes_default_method: str = "sieve"


def load() -> ClientSettings:
    """The settings of the environment and `.env`; raises SettingError."""
    return settings.load(ClientSettings, settings.environment())
