"""The JSON profile of every text that crosses a wire or a pipe (DESIGN section 5).

UTF-8; depth at most 64; no NaN or Infinity; no duplicate keys; no lone surrogates; no NUL.
Python's own parser keeps integers exact (up to its 4,300 digits) and calls the hooks below from C.
"""

import json
import math
import re
from collections.abc import Callable
from json import encoder
from typing import Any, NoReturn

MAX_DEPTH = 64
_SCALARS = {str, int, float, bool, type(None)}
_CONTAINERS = (dict, list, tuple)
_TEXT = frozenset({str})
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_MARKS = bytes(set(range(256)) - set(b'"\\[]{}'))


class JsonError(ValueError):
    """The text or value breaks the profile; the message says how and, where known, at which path."""


def parse(body: bytes | str, depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text; raises JsonError naming what breaks the profile."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise JsonError(f"not valid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise JsonError(f"nested deeper than {depth} levels") from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"not valid JSON: {error}") from None
    if "\\u" in text:
        _refuse_odd_escapes(text)
    if text.count("[") + text.count("{") > depth and not _is_flat(text.encode(), depth):
        _check_depth(value, depth)
    return value


def dump(value: Any) -> str:
    """The compact JSON text of a value; raises JsonError naming the path of what cannot be written."""
    try:
        text = encode(value)
    except (TypeError, ValueError, RecursionError):
        raise JsonError(_explain(value)) from None
    if _is_suspect(text, value):
        reason = _first_fault(value)
        if reason:
            raise JsonError(reason)
    return text


def dump_again(value: Any) -> str:
    """The same of a value that `parse` made, where only its depth can be at fault."""
    text = encode(value)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    return text


def _is_suspect(text: str, value: Any) -> bool:
    """Whether the slow look for faults is worth it: a NUL, a surrogate, depth, keys that are no text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return True
    return "\\u0000" in text or text.count("[") + text.count("{") > MAX_DEPTH or _has_odd_key(value)


def _has_odd_key(value: Any) -> bool:
    """Whether a dict has a key that is not text: the encoder would turn 1 and "1" into the same key."""
    containers = [value] if isinstance(value, _CONTAINERS) else []
    for item in containers:  # grows meanwhile
        if isinstance(item, dict) and not _TEXT.issuperset(map(type, item)):
            return True
        children = item.values() if isinstance(item, dict) else item
        containers += [child for child in children if type(child) not in _SCALARS and isinstance(child, _CONTAINERS)]
    return False


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f"duplicate key {twice!r}")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise JsonError(f"number {digits[:40]} is out of range")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_refuse_constant, parse_float=_finite)


def _built_once() -> Callable[[Any], str]:
    """`JSONEncoder.encode` builds its C encoder anew for every value; this one stays."""
    plain = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    write = make(None, plain.default, encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))


encode = _built_once()
"""The compact JSON text of a value that is our own, or was checked when it came in."""


def _refuse_odd_escapes(text: str) -> None:
    if _NUL.search(text):
        raise JsonError("a NUL character (\\u0000) is not accepted")
    value = json.loads(text)
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("a lone surrogate is not valid text") from None


def _is_flat(body: bytes, limit: int) -> bool:
    """Whether the brackets of a JSON text nest no deeper, as far as that shows without telling texts from marks.

    Each pass takes away the innermost pairs, at the speed of memory.
    """
    marks = body.translate(_AS_BRACES, _NO_MARKS)
    if b"\\" in marks:  # it may hide a quote
        return False
    marks = marks.replace(b'""', b"")
    for _ in range(limit):
        before, marks = len(marks), marks.replace(b"{}", b"")
        if len(marks) == before:  # nothing is left, or brackets in texts are
            break
    return not marks


def _check_depth(value: Any, limit: int) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > limit + 1:
            raise JsonError(f"nested deeper than {limit} levels")
        level = [child for item in level for child in _children(item)]


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return list(item) if isinstance(item, (list, tuple)) else []


def _explain(value: Any) -> str:
    return _first_fault(value) or "cannot be written as JSON"


def _first_fault(value: Any) -> str | None:
    """The path and reason of the first thing that breaks the profile, walking in order."""
    stack: list[tuple[Any, str, int]] = [(value, "$", 0)]
    while stack:
        item, path, depth = stack.pop()
        reason = _fault(item, depth)
        if reason:
            return f"{path}: {reason}"
        stack.extend(reversed(_named_children(item, path, depth + 1)))
    return None


def _named_children(item: Any, path: str, depth: int) -> list[tuple[Any, str, int]]:
    if isinstance(item, dict):
        return [(child, f"{path}.{key}", depth) for key, child in item.items()] + [(key, path, 0) for key in item]
    if isinstance(item, (list, tuple)):
        return [(child, f"{path}[{index}]", depth) for index, child in enumerate(item)]
    return []


def _fault(item: Any, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(item, float) and not math.isfinite(item):
        return f"{item} is not JSON"
    if isinstance(item, str):
        return _text_fault(item)
    if isinstance(item, dict):
        odd = next((key for key in item if not isinstance(key, str)), None)
        return None if odd is None else f"key {odd!r} is not text"
    if item is None or isinstance(item, (bool, int, float, list, tuple)):
        return None
    return f"{type(item).__name__} is not JSON"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character is not accepted"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "a lone surrogate is not valid text"
    return None
