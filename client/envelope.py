"""What the body of a reply says: the data of a success, or the reason of a refusal."""

import http.client
import json
import re
from typing import Any, NoReturn

from client.errors import BadReply, Refused

_BARE = ("/get-task", "/health")  # the classic replies that stand without an envelope


def data(url: str, path: str, text: bytes) -> Any:
    """The `data` of a success envelope, or the whole object of a bare reply; raises BadReply."""
    try:
        reply = _parse(text)
    except ValueError as error:
        raise BadReply(url, f"not JSON ({error})") from None
    if not isinstance(reply, dict):
        raise BadReply(url, f"{type(reply).__name__} in place of an object")
    if reply.get("status") == "success" and "data" in reply:
        return reply["data"]
    if path.partition("?")[0] in _BARE:
        return reply
    raise BadReply(url, "an object without status success and data")


def refusal(status: int, text: bytes, retry_after: str | None) -> Refused:
    """The error for a 4xx or 5xx; something stands for code and message when a proxy or a stranger answered."""
    try:
        body = _parse(text)
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    code = fields.get("code") or f"http_{status}"
    message = fields.get("message") or fields.get("error") or http.client.responses.get(status, "an unknown status")
    return Refused(status, str(code), str(message), _seconds(retry_after))


def _seconds(text: str | None) -> float | None:
    """Of Retry-After; a date is passed over, since the clocks of two machines need not agree."""
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Not the full JSON profile: texts in a reply were checked when the dispatcher took them in, and the check for
# duplicate keys would triple the cost of reading a large claim.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(text: bytes) -> Any:
    """The JSON value of a body; raises ValueError, also for text that is not UTF-8 or nested too deep."""
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
