"""The command line of add_task.py, and the tasks that it describes."""

import argparse
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from client.bodies import rfc3339
from client.config import ClientSettings
from common import json_profile
from common.durations import parse_duration

METHODS = ("sieve", "trial_division")
_DEFAULT_LIMIT = 100_000

_EXAMPLES = """\
examples:
  add_task.py 5 100000                     five tasks: the primes up to 100000
  add_task.py 1 100000 trial_division      one, by the other method
  add_task.py 3 1000000 --wait             three, waiting for their results with a progress bar
  add_task.py --type noop --count 1000     a thousand tasks of a type of yours (tasks/noop_task.py)
  add_task.py --type resize --data '{"width": 80}' --queue images --priority 5 --timeout 5m
  add_task.py --type report --data @order.json --at 2030-01-01T06:00:00Z --key report-2030-01-01
  generate | add_task.py --type load --data - --delay 90s --wait --json

output with --json: one JSON object per line on standard output; without --wait one for each task
  {"task_id": 1, "task_type": "prime"}
as soon as it is stored, with --wait the whole task as `GET /task/<id>` has it, as soon as it has ended.

exit codes:
  0    done: submitted, and with --wait completed
  1    with --wait: a task failed or was cancelled
  2    wrong usage or bad input; nothing was submitted
  3    no dispatcher could be reached, or it has trouble of its own (5xx)
  4    the dispatcher refused the request (4xx)
  130  interrupted (Ctrl-C); what was submitted goes on

settings (environment or .env): DISPATCHER_URL, DISPATCHER_TOKEN, DISPATCHER_CA, PRIMES_MAX_LIMIT,
PRIMES_DEFAULT_METHOD. The token has no option: command lines can be read by every user of a machine.
"""


class UsageError(ValueError):
    """The command line asks for something that cannot be submitted."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to submit and what to do then; `task` has the fields of `POST /submit-task`."""

    task: dict[str, Any]
    count: int
    summary: str
    key: str | None = None
    url: str | None = None
    wait: bool = False
    json: bool = False


def read(argv: list[str], given: ClientSettings) -> Order:
    """The order on a command line. Raises UsageError or another ValueError; argparse itself exits with code 2."""
    args = _parser().parse_intermixed_args(argv)
    if args.count is not None and args.count_option is not None:
        raise UsageError("the count is given twice: as COUNT and with --count")
    count = args.count_option if args.count is None else args.count
    task = _typed(args) if args.type else _prime(args, given)
    _check_limit(task, given)
    if count is None and not args.type:
        raise UsageError("say how many tasks: add_task.py COUNT [LIMIT [METHOD]], or name a --type (--help shows more)")
    summary = args.type or "prime up to {limit} ({method})".format(**task["task_data"])
    options = {"key": args.key, "url": args.url, "wait": args.wait, "json": args.json}
    return Order({**task, **_common(args)}, 1 if count is None else count, summary, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="add_task.py",
        description="Submits tasks to a Taskmill dispatcher.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("count", metavar="COUNT", nargs="?", type=_positive, help="how many tasks")
    parser.add_argument("limit", metavar="LIMIT", nargs="?", type=_whole, help=f"primes up to it ({_DEFAULT_LIMIT})")
    parser.add_argument("method", metavar="METHOD", nargs="?", choices=METHODS, help="sieve or trial_division")
    _add_task_options(parser)
    _add_other_options(parser)
    return parser


def _add_task_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the task")
    group.add_argument("--type", metavar="NAME", help="its task_type, in place of prime")
    group.add_argument("--data", metavar="JSON|@FILE|-", help="its task_data: JSON, a file with it, standard input")
    group.add_argument("--count", dest="count_option", metavar="N", type=_positive, help="the same as COUNT")
    group.add_argument("--queue", metavar="NAME", default="default", help="its queue (default)")
    group.add_argument("--priority", metavar="N", type=_number, default=0, help="larger goes first within a queue (0)")
    when = group.add_mutually_exclusive_group()
    when.add_argument("--delay", metavar="90s", type=_duration, help="run it that much later")
    when.add_argument("--at", metavar="TIME", type=_moment, help="run it at that time (RFC 3339, with a zone)")
    group.add_argument("--max-attempts", metavar="N", type=_positive, help="how often to try it")
    group.add_argument("--timeout", metavar="5m", type=_duration, help="the longest one attempt may run")
    group.add_argument("--tag", metavar="NAME", action="append", default=[], help="a tag; may be given several times")
    group.add_argument("--key", metavar="TEXT", help="idempotency key: the same command again submits nothing new")


def _add_other_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait for the end and show progress and result")
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output, for programs")
    parser.add_argument(
        "--url", help="the dispatcher; several, comma-separated (setting DISPATCHER_URL, else http://127.0.0.1:5000)"
    )


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "queue": args.queue,
        "priority": args.priority,
        "delay_seconds": args.delay,
        "run_at": args.at,
        "max_attempts": args.max_attempts,
        "timeout_seconds": args.timeout,
        "tags": args.tag,
    }


def _typed(args: argparse.Namespace) -> dict[str, Any]:
    if args.limit is not None:
        raise UsageError("LIMIT and METHOD belong to prime tasks; with --type the task's data is given by --data")
    return {"task_type": args.type, "task_data": {} if args.data is None else _data(args.data)}


def _prime(args: argparse.Namespace, given: ClientSettings) -> dict[str, Any]:
    if args.data is not None:
        raise UsageError("--data needs --type")
    if given.primes_default_method not in METHODS:
        raise UsageError(
            f"setting PRIMES_DEFAULT_METHOD={given.primes_default_method}: not one of {', '.join(METHODS)}"
        )
    limit = _DEFAULT_LIMIT if args.limit is None else args.limit
    return {"task_type": "prime", "task_data": {"limit": limit, "method": args.method or given.primes_default_method}}


def _check_limit(task: dict[str, Any], given: ClientSettings) -> None:
    """Refuses primes that every worker would refuse too; `compute` without a `type` finds primes as well."""
    data = task["task_data"]
    primes = task["task_type"] == "prime" or (task["task_type"] == "compute" and data.get("type") is None)
    limit = data.get("limit")
    if primes and isinstance(limit, int) and limit > given.primes_max_limit:
        raise UsageError(f"LIMIT {limit} is above PRIMES_MAX_LIMIT, which is {given.primes_max_limit}")


def _data(text: str) -> dict[str, Any]:
    try:
        value = json_profile.parse(_source(text))
    except OSError as error:
        raise UsageError(f"--data {text}: {error.strerror}") from None
    except json_profile.JsonError as error:
        raise UsageError(f"--data: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"--data must be a JSON object, not {type(value).__name__}")
    return value


def _source(text: str) -> bytes | str:
    if text == "-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text


def _whole(text: str) -> int:
    number = _number(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _positive(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
        return rfc3339(moment.astimezone(timezone.utc) if moment.tzinfo else moment)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time with a zone, like 2030-01-01T06:00:00Z or 2030-01-01T08:00:00+02:00"
        ) from None
