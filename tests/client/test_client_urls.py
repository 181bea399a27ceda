"""Where dispatchers are: what DISPATCHER_URL, `Client(url)` and `--url` take, and what is said of a bad one."""

import json
import socket
import subprocess
import sys

import pytest
from scripted_server import Server, success

from client import Client, cli, urls
from client.failover import Failover
from common.settings import ROOT, SettingError
from worker import config as worker_config

Output = pytest.CaptureFixture[str]


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_commas_separate_and_spaces_are_passed_over() -> None:
    assert urls.listed(" http://a:5000 , https://b/queue,") == ("http://a:5000", "https://b/queue")
    assert urls.listed("http://a:5000") == ("http://a:5000",)


@pytest.mark.parametrize("text", ["nowhere", "http://a:5000 http://b", "http://a,ftp://b", "http://a:port", "", ","])
def test_the_url_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a dispatcher") as caught:
        urls.listed(text)
    assert repr(text.removeprefix("http://a,")) in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("b:5000", "is not the URL of a dispatcher, like http://127.0.0.1:5000"),
        ("http://[::1", "is not the URL of a dispatcher"),
        ("http://user:s3cret@b", "carries no user or password"),
        ("ftp://user:s3cret@b", "is not the URL"),
    ],
)
def test_setting_and_bad_url_are_named_but_no_password(given: dict[str, str], bad: str, reason: str) -> None:
    given["DISPATCHER_URL"] = f"http://a:5000, {bad}"
    for read in (Client, lambda: worker_config.read({"DISPATCHER_URL": given["DISPATCHER_URL"]})):
        with pytest.raises(SettingError, match=reason) as caught:
            read()
        assert str(caught.value).startswith(f"setting DISPATCHER_URL={bad.replace('user:s3cret', '***')}: ")
        assert "s3cret" not in str(caught.value)


def test_a_setting_of_nothing_but_commas(given: dict[str, str]) -> None:
    given["DISPATCHER_URL"] = ","
    with pytest.raises(SettingError, match="setting DISPATCHER_URL=: '' is not the URL"):
        Client()


def test_the_client_takes_several(server: Server, given: dict[str, str]) -> None:
    several = f"{closed_port()} , {server.url}"
    given["DISPATCHER_URL"] = several
    server.answer(success({"task_id": 1}), success({"task_id": 2}))
    for url in (None, several):
        with Client(url, retry_seconds=0) as client:
            assert isinstance(client._transport, Failover)
            assert client.submit("noop") == (2 if url else 1)
            assert client.url == server.url


def test_an_explicit_url_does_not_care_for_the_setting(given: dict[str, str]) -> None:
    given["DISPATCHER_URL"] = "nowhere"
    with Client("http://a:5000") as client:
        assert client.url == "http://a:5000"


def test_the_worker_takes_several() -> None:
    read = worker_config.read({"DISPATCHER_URL": "http://a:5000, http://b:5000"})
    assert read.dispatcher_url == ("http://a:5000", "http://b:5000")


# --- add_task.py


def test_the_command_line_goes_on_with_the_second(server: Server) -> None:
    server.answer(success({"task_id": 7}))
    command = [sys.executable, str(ROOT / "add_task.py"), "--url", f"{closed_port()}, {server.url}", "--json", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {"task_id": 7, "task_type": "prime"}


def test_the_command_line_names_all_that_are_silent(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_SUBMIT_PATIENCE", 0)
    first, second = closed_port(), closed_port()
    assert cli.main(["1", "--url", f"{first},{second}"]) == 3
    told = capsys.readouterr().err
    assert "no answer from any dispatcher: " in told
    assert f"{first} (Connection refused)" in told
    assert f"{second} (Connection refused)" in told


def test_the_command_line_names_the_bad_one(capsys: Output) -> None:
    assert cli.main(["1", "--url", "http://a,nowhere"]) == 2
    assert "'nowhere' is not the URL of a dispatcher" in capsys.readouterr().err
