"""The line to the dispatcher: who is told of what, and when what waits is sent anew."""

from typing import Any

import pytest
from doubles import ScriptedDispatcher, refusal, silence

from client.transport import Refused, TransportError
from worker.link import Link


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
def told(dispatcher: ScriptedDispatcher) -> list[int]:
    """How many calls there had been each time that the dispatcher was back."""
    return []


@pytest.fixture
def link(dispatcher: ScriptedDispatcher, told: list[int]) -> Link:
    return Link(dispatcher, on_return=lambda: told.append(len(dispatcher.bodies("/heartbeat"))))


def beat(link: Link) -> Any:
    return link.post("/heartbeat", {"leases": []}, 1.0)


def renewals(dispatcher: ScriptedDispatcher) -> int:
    return sum(method == "RENEW" for method, _, _ in dispatcher.calls)


def test_after_a_silence_what_waits_is_sent_anew_and_everybody_is_told(
    dispatcher: ScriptedDispatcher, link: Link, told: list[int]
) -> None:
    dispatcher.answers["/heartbeat"] = silence
    for _ in range(2):
        with pytest.raises(TransportError):
            beat(link)
    assert link.silent
    dispatcher.answers["/heartbeat"] = dispatcher.pulse
    beat(link)
    beat(link)
    assert not link.silent
    assert told == [3]
    assert renewals(dispatcher) == 1


def test_a_refusal_ends_a_silence(dispatcher: ScriptedDispatcher, link: Link, told: list[int]) -> None:
    dispatcher.answers["/heartbeat"] = silence
    with pytest.raises(TransportError):
        beat(link)
    dispatcher.answers["/heartbeat"] = refusal(401)
    with pytest.raises(Refused):
        beat(link)
    assert told == [2]
    assert renewals(dispatcher) == 1


def test_who_has_no_right_to_ask_is_unwelcome(dispatcher: ScriptedDispatcher, link: Link) -> None:
    answers = ((401, "", True), (503, "", False), (403, "", True), (429, "", False), (429, "wrong_tokens", True))
    for status, code, unwelcome in answers:
        dispatcher.answers["/heartbeat"] = refusal(status, code)
        with pytest.raises(Refused):
            beat(link)
        assert link.unwelcome is unwelcome
    dispatcher.answers["/heartbeat"] = dispatcher.pulse
    beat(link)
    assert not link.unwelcome


def test_who_was_refused_is_told_when_that_is_over(dispatcher: ScriptedDispatcher, link: Link, told: list[int]) -> None:
    for status in (503, 400):
        dispatcher.answers["/heartbeat"] = refusal(status)
        with pytest.raises(Refused):
            beat(link)
    dispatcher.answers["/heartbeat"] = dispatcher.pulse
    beat(link)
    beat(link)
    assert told == [3]
    assert renewals(dispatcher) == 0, "the connections have answered all the time"


def test_a_report_that_is_accepted_again_says_nothing_of_the_others(
    dispatcher: ScriptedDispatcher, link: Link, told: list[int]
) -> None:
    dispatcher.answers["/submit-results"] = refusal(503)
    with pytest.raises(Refused):
        link.post("/submit-results", {"outcomes": []}, 1.0)
    dispatcher.answers["/submit-results"] = dispatcher.accept
    link.post("/submit-results", {"outcomes": []}, 1.0)
    assert not told
