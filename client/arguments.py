"""The command line of add_task.py, and the tasks that it describes."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from client.config import ClientSettings
from common import submitting
from common.places import ADD

METHODS = ("sieve", "trial_division")
_DEFAULT_LIMIT = 100_000

_EXAMPLES = """\
examples:
  add_task.py 5 100000                     five tasks: the primes up to 100000
  add_task.py 1 100000 trial_division      one, by the other method
  add_task.py 3 1000000 --wait             three, waiting for their results with a progress bar
  add_task.py --type noop --count 1000     a thousand tasks of a type of yours (tasks/noop_task.py)
  add_task.py --type resize --data '{"width": 80}' --queue images --priority 5 --timeout 5m --memory 512M
  add_task.py --type report --data @order.json --at 2030-01-01T06:00:00Z --idempotency-key report-2030-01-01
  add_task.py --type mail --key user:42 --require host:lab3 --max-attempts 8 --backoff first=10s,factor=2,max=15m
  add_task.py --type import --unique-key import --wait-limit 1h --total-limit 1d
  generate | add_task.py --type load --data - --delay 90s --wait --json

output with --json: one JSON object per line on standard output; without --wait one for each task
  {"task_id": 1, "task_type": "prime"}
as soon as it is stored, with --wait the whole task as `GET /task/<id>` has it, as soon as it has ended.
With --unique-key the object has "created": false when a twin was there already; its id is the answer.

exit codes:
  0    done: submitted, and with --wait completed
  1    with --wait: a task failed or was cancelled
  2    wrong usage or bad input, the option is named; nothing was submitted
  3    no dispatcher could be reached, or it has trouble of its own (5xx)
  4    the dispatcher refused the request as things stand: token, full queue (other 4xx)
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
    key: str | None = None  # the idempotency key
    url: str | None = None
    wait: bool = False
    json: bool = False


def read(argv: list[str], given: ClientSettings) -> Order:
    """The order on a command line. Raises UsageError or another ValueError; argparse itself exits with code 2."""
    args = parser().parse_intermixed_args(argv)
    count = _count(args)
    fields = submitting.read(submitting.SUBMIT, vars(args))
    if "task_type" not in fields:
        fields |= _prime(args, fields, given)
    elif args.limit is not None:
        raise UsageError("LIMIT and METHOD belong to prime tasks; with --type the task's data is given by --data")
    task = {"task_data": {}, **fields}
    _check_limit(task, given)
    if count > 1 and "unique_key" in task:
        raise UsageError(f"--unique-key: there is one task of a key at a time, not {count}")
    key, summary = task.pop("idempotency_key", None), _summary(args, task)
    return Order(task, count, summary, key, args.url, args.wait, args.json)


def _count(args: argparse.Namespace) -> int:
    if args.count is not None and args.count_option is not None:
        raise UsageError("the count is given twice: as COUNT and with --count")
    count = args.count_option if args.count is None else args.count
    if count is None and not args.task_type:
        raise UsageError(f"say how many tasks: {ADD} COUNT [LIMIT [METHOD]], or name a --type (--help shows more)")
    return 1 if count is None else int(count)


def _summary(args: argparse.Namespace, task: dict[str, Any]) -> str:
    return args.task_type or "prime up to {limit} ({method})".format(**task["task_data"])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog=ADD,
        description="Submits tasks to a Taskmill dispatcher.",
        epilog=_EXAMPLES.replace("add_task.py", ADD),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("count", metavar="COUNT", nargs="?", type=_as(submitting.positive), help="how many tasks")
    made.add_argument(
        "limit", metavar="LIMIT", nargs="?", type=_as(_from_0), help=f"primes up to it ({_DEFAULT_LIMIT})"
    )
    made.add_argument("method", metavar="METHOD", nargs="?", choices=METHODS, help="sieve or trial_division")
    group = made.add_argument_group("the task")
    group.add_argument(
        "--count", dest="count_option", metavar="N", type=_as(submitting.positive), help="the same as COUNT"
    )
    for option in submitting.SUBMIT:
        action = "append" if option.many else "store"
        group.add_argument(option.flag, dest=option.field, metavar=option.metavar, help=option.help, action=action)
    _add_other_options(made)
    return made


def _add_other_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait for the end and show progress and result")
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output, for programs")
    parser.add_argument(
        "--url", help="the dispatcher; several, comma-separated (setting DISPATCHER_URL, else http://127.0.0.1:5000)"
    )


def _prime(args: argparse.Namespace, fields: dict[str, Any], given: ClientSettings) -> dict[str, Any]:
    if "task_data" in fields:
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


def _from_0(text: str) -> int:
    number = submitting.whole(text)
    if number < 0:
        raise ValueError(f"{text} is below 0")
    return number


def _as(read: Callable[[str], int]) -> Callable[[str], int]:
    """For argparse, which shows the reason of an error of its own alone."""

    def parse(text: str) -> int:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
