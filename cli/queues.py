"""`taskmill queues` and `taskmill queue NAME pause|resume|limit`: a running dispatcher is asked, all over HTTP."""

from collections.abc import Callable
from typing import Any

import click

from cli import show
from cli.errors import DONE, USAGE, Failed
from cli.options import Decorator, alone, asking, dispatcher, examples, name_of, named_group
from common.durations import parse_duration

NONE = "none"
NUMBERS, LIMITS = ("waiting", "ready", "running"), ("limit", "rate", "weight", "backlog", "per key", "key rate")
HEADINGS = ("queue", "state", *NUMBERS, *LIMITS)


def _option(flag: str, metavar: str, words: str) -> Decorator:
    return click.option(flag, metavar=metavar, help=f"{words}; none: no limit.")


@click.command(epilog=examples("queues", "queues --json"))
@asking
def queues(as_json: bool, url: str | None) -> int:
    """Show all queues: what they hold, and their limits."""
    with dispatcher(url) as client:
        show.things(client.queues(), HEADINGS, _row, as_json)
    return DONE


@named_group("queue mail", "queue mail pause", "queue mail limit --running 10 --rate 100/1m")
def queue(context: click.Context, name: str, as_json: bool, url: str | None) -> int:
    """Show a queue, pause, resume or limit it."""
    if alone(context, as_json, url):
        with dispatcher(url) as client:
            found = client.queue(name)
        if as_json:
            show.as_json(found)
        else:
            show.table(HEADINGS, [_row(found)])
    return DONE


@queue.command()
@asking
@click.pass_context
def pause(context: click.Context, as_json: bool, url: str | None) -> int:
    """Pause a queue: none of its tasks starts until it is resumed, what runs goes on."""
    with dispatcher(url) as client:
        found = client.pause(name_of(context))
    return _tell(found, f" is paused; {found['running']} tasks of it still run", as_json)


@queue.command()
@asking
@click.pass_context
def resume(context: click.Context, as_json: bool, url: str | None) -> int:
    """Resume a paused queue: its tasks start again."""
    with dispatcher(url) as client:
        found = client.resume(name_of(context))
    return _tell(found, f" goes on; {found['pending']} tasks wait in it", as_json)


@queue.command(epilog=examples("queue mail limit --rate 100/1m", "queue mail limit --running none --per-key 2"))
@_option("--running", "N", "Tasks that run at a time")
@_option("--rate", "100/1m", "Tasks that start in a stretch of time")
@_option("--weight", "N", "Its part of the work beside other queues (1)")
@_option("--waiting", "N", "Tasks that may wait before submits are refused")
@_option("--per-key", "N", "Tasks of one key that run at a time")
@_option("--key-rate", "10/1m", "Tasks of one key that start in a stretch of time")
@asking
@click.pass_context
def limit(context: click.Context, /, as_json: bool, url: str | None, **texts: str | None) -> int:
    """Limit a queue. What is not named stays as it is."""
    given: dict[str, tuple[str, Callable[[str], Any]]] = {
        "max_running": ("--running", int),
        "rate": ("--rate", _rate),
        "weight": ("--weight", int),
        "max_waiting": ("--waiting", int),
        "key_running": ("--per-key", int),
        "key_rate": ("--key-rate", _rate),
    }
    said = {flag: text for name, text in texts.items() if (flag := f"--{name.replace('_', '-')}") and text is not None}
    changes = {field: _read(flag, said[flag], parse) for field, (flag, parse) in given.items() if flag in said}
    if not changes:
        raise Failed("say what to limit: --running, --rate, --weight, --waiting, --per-key or --key-rate", USAGE)
    with dispatcher(url) as client:
        found = client.limit(name_of(context), **changes)
    return _tell(found, f": {_limits(found)}", as_json)


def _tell(found: dict[str, Any], words: str, as_json: bool) -> int:
    if as_json:
        show.as_json(found)
    else:
        click.echo(f"queue {found['queue']}{words}")
    return DONE


def _read(option: str, text: str, parse: Callable[[str], Any]) -> Any:
    if text == NONE:
        return None
    try:
        return parse(text)
    except ValueError:
        example = "like 100/1m" if option.endswith("rate") else "a whole number"
        raise Failed(f"{option} {text}: must be {example}, or none", USAGE) from None


def _rate(text: str) -> dict[str, Any]:
    count, _, period = text.partition("/")
    return {"count": int(count), "period_seconds": parse_duration(period)}


def _row(queue: dict[str, Any]) -> tuple[object, ...]:
    counts = (queue["pending"], queue["ready"], queue["running"])
    limits = (queue["max_running"], _shown_rate(queue["rate"]), queue["weight"])
    state = "paused" if queue["paused"] else "runs"
    keyed = (queue["key_running"], _shown_rate(queue["key_rate"]))
    return queue["queue"], state, *counts, *limits, queue["max_waiting"], *keyed


def _limits(queue: dict[str, Any]) -> str:
    named = {
        "running": queue["max_running"], "rate": _shown_rate(queue["rate"]),
        "weight": queue["weight"], "waiting": queue["max_waiting"], "per key": queue["key_running"],
        "key rate": _shown_rate(queue["key_rate"]),
    }  # fmt: skip
    return ", ".join(f"{name} {NONE if value is None else value}" for name, value in named.items())


def _shown_rate(rate: dict[str, Any] | None) -> str | None:
    return None if rate is None else f"{rate['count']}/{rate['period_seconds']:g}s"
