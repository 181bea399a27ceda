"""The JSON profile: what is refused on the way in and on the way out (DESIGN section 5)."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from common.json_profile import JsonError, dump, dump_again, parse


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "NaN"),
        ("[1e999]", "out of range"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('"\\ud800"', "surrogate"),
        ('"\\u0000"', "NUL"),
        ("[" * 66 + "]" * 66, "64"),
        ("[" * 100_000, "64"),
        (b"\xff\xfe", "UTF-8"),
        ("{", "not valid JSON"),
    ],
)
def test_texts_outside_the_profile_are_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(JsonError, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [1, float("nan")]}, r"\$\.a\[1\]"),
        ({"a": {"b": {1, 2}}}, r"\$\.a\.b: set"),
        ({1: "a", "1": "b"}, "key 1 is not text"),
        ({"of a kind of dict": OrderedDict({1: "a", "1": "b"})}, "key 1 is not text"),
        ([{"deep": {True: 1}}], "key True is not text"),
        ({"é": "\ud800"}, "surrogate"),
        ({"a": "\0"}, "NUL"),
    ],
)
def test_values_outside_the_profile_are_refused_by_path(value: Any, reason: str) -> None:
    with pytest.raises(JsonError, match=reason):
        dump(value)


@pytest.mark.parametrize("value", [2**65, 10**4000, "ä\\u0000"[0], {"é": [1.5, None, True]}, [[]] * 40, "\\u0000"])
def test_what_is_written_is_read_again_exactly(value: Any) -> None:
    assert parse(dump(value)) == value


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        ('{"a": "' + "[" * 100 + '"}', False),
        ('["\\"' + "[" * 100 + '", "{"]', False),
        ("[" * 64 + "1" + "]" * 64, False),
        ("[" * 65 + "]" * 65, False),
        ("[" * 65 + "1" + "]" * 65, True),
        ('{"a":' * 65 + '"]]]"' + "}" * 65, True),
        ('["x", ' * 65 + '"\\""' + "]" * 65, True),
        ("[" + "[{}]," * 1000 + '"' + "{" * 70 + '"]', False),
        ("[" + "[{}]," * 1000 + "{}]", False),
    ],
)
def test_depth_is_that_of_values_not_of_brackets_in_texts(text: str, deep: bool) -> None:
    if deep:
        with pytest.raises(JsonError, match="64"):
            parse(text)
    else:
        assert dump_again(parse(text)) == dump(parse(text))


def test_brackets_in_texts_cost_little() -> None:
    text = json.dumps(["["] * 300_000)
    plain = min(spent(json.loads, text) for _ in range(5))
    assert min(spent(parse, text) for _ in range(5)) < 60 * plain, "12 to 25 times; a pass for each would be thousands"


def spent(call: Callable[[str], object], text: str) -> float:
    """Seconds of the processor."""
    began = time.thread_time()
    call(text)
    return time.thread_time() - began


def test_what_was_deep_in_a_request_is_too_deep_to_be_stored() -> None:
    with pytest.raises(JsonError, match="64"):
        dump_again(parse("[" * 70 + "]" * 70, 128))
