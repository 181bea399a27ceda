"""The addresses of dispatchers: one, or several that stand before the same store, separated by commas."""

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from common.settings import SettingError

DEFAULT = "http://127.0.0.1:5000"
PLAIN = re.compile(r"[!-~]+")  # what may stand in a request line or a token: no space, no control, ASCII
_SECRET = re.compile(r"//[^/]*@")


def listed(text: str) -> tuple[str, ...]:
    """The URLs in a text like `http://a:5000, http://b:5000`; raises ValueError naming the one that is none."""
    urls = tuple(part.strip() for part in text.split(",") if part.strip())
    for url in urls or (text,):
        parts(url)
    return urls


def of_setting(urls: Iterable[str]) -> tuple[str, ...]:
    """The URLs that the setting DISPATCHER_URL lists; raises SettingError naming the one that is none."""
    urls = tuple(urls)
    for url in urls or ("",):
        try:
            parts(url)
        except ValueError as error:
            raise SettingError("DISPATCHER_URL", _shown(url), str(error)) from None
    return urls


def parts(url: str) -> SplitResult:
    """The parts of a dispatcher's URL; raises ValueError for one that cannot be used."""
    try:
        split = urlsplit(url)
        _ = split.port  # raises for one that is no number
    except ValueError:
        split = SplitResult("", "", "", "", "")
    usable = split.scheme in ("http", "https") and split.hostname and not (split.query or split.fragment)
    if not usable or not PLAIN.fullmatch(url):
        raise ValueError(f"{_shown(url)!r} is not the URL of a dispatcher, like {DEFAULT}")
    if split.username is not None:
        raise ValueError("a dispatcher's URL carries no user or password: set DISPATCHER_TOKEN")
    return split


def _shown(url: str) -> str:
    """A URL for a message, which may land in a log, where no password belongs."""
    return _SECRET.sub("//***@", url)
