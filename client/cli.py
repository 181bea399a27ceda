"""add_task.py: submits tasks and, when asked, waits for them. Exit codes are those of `common.exits`."""

import os
import sys
from collections.abc import Callable, Iterator

from client import arguments, config
from client.arguments import Order
from client.client import Client
from client.display import Human, JsonLines
from client.errors import ClientError, Rejected, TransportError
from client.retry import Retry, Timing
from client.waiting import Watch
from common import submitting
from common.exits import DONE, FAILED, INTERRUPTED, UNREACHABLE, USAGE, of_status
from common.places import ADD, DISPATCHER
from common.settings import SettingError

_SUBMIT_PATIENCE, _WAIT_PATIENCE = 5.0, 60.0  # seconds of retries: who submits wants to know, who waits has time
_WATCHED = 100  # open tasks whose progress is asked for

Connect = Callable[[str | None, float], Client]
Display = Human | JsonLines


def main(argv: list[str] | None = None, connect: Connect | None = None, timing: Timing | None = None) -> int:
    """Runs the command line and returns its exit code; `connect(url, patience)` makes the clients."""
    try:
        code = _run(sys.argv[1:] if argv is None else argv, connect or _connect, timing or Timing())
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\n")  # the progress bar, or the terminal's ^C, stands on this line
        return _fail("interrupted; what was submitted goes on", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its exit
        return INTERRUPTED
    except Rejected as error:
        return _fail(f"the dispatcher refused this: {submitting.by_flags(error.message)}", of_status(error.status))
    except TransportError as error:
        return _fail(f"{error}\nIs the dispatcher running? Start it with: {DISPATCHER}", UNREACHABLE)
    except (ValueError, SettingError) as error:
        return _fail(str(error), USAGE)
    return code


def _run(argv: list[str], connect: Connect, timing: Timing) -> int:
    order = arguments.read(argv, config.load())
    task_type = order.task["task_type"]
    show = JsonLines(task_type, wait=order.wait) if order.json else Human(order.summary, order.count)
    task_ids: list[int] = []
    with connect(order.url, _SUBMIT_PATIENCE) as client:
        for batch, created in _submitted(client, order):
            show.added(batch) if created else show.twin(batch[0])
            task_ids += batch
        workers = None if order.json else _active_workers(client)
        if not order.wait or workers == 0:
            show.next_step(client.url, task_ids, workers=workers)
    if not order.wait:
        return DONE
    with connect(order.url, _WAIT_PATIENCE) as client:
        return _wait(client, task_ids, show, timing)


def _submitted(client: Client, order: Order) -> Iterator[tuple[list[int], bool]]:
    """The ids as they are stored, and whether their tasks are new."""
    if order.count > 1:
        tasks = (order.task for _ in range(order.count))
        yield from ((ids, True) for ids in client.submit_batches(tasks, idempotency_key=order.key))
        return
    fields = dict(order.task)
    words = fields.pop("task_type"), fields.pop("task_data")
    if "unique_key" in fields:
        task_id, created = client.submit_unique(*words, **fields, idempotency_key=order.key)
        yield [task_id], created
        return
    yield [client.submit(*words, **fields, idempotency_key=order.key)], True


def _active_workers(client: Client) -> int | None:
    """How many workers are active; None when the dispatcher cannot tell: a hint is not worth an error."""
    try:
        return int(client.stats()["active_workers"])
    except (ClientError, KeyError):
        return None


def _wait(client: Client, task_ids: list[int], show: Display, timing: Timing) -> int:
    watch = client.waiting(task_ids)
    total, good, shown = len(watch.open), True, -1.0
    while watch.open:
        for task in watch.round(1.0):
            show.ended(client.url, task)
            good = good and task["status"] == "completed"
        if watch.open and isinstance(show, Human) and timing.now() >= shown + 1.0:
            _show_progress(client, watch, show, total, explain=shown >= 0)
            shown = timing.now()
    return DONE if good else FAILED


def _show_progress(client: Client, watch: Watch, show: Human, total: int, explain: bool) -> None:
    running = [task for task in client.tasks(ids=watch.open[:_WATCHED]) if task["status"] == "in_progress"]
    why = _why(client, watch.open[0]) if explain and not running else ""
    show.progress(total, total - len(watch.open), running, why)


def _why(client: Client, task_id: int) -> str:
    """Why a task waits, if it still does."""
    because = client.task(task_id).get("waiting_because")
    return f"task {task_id}: {because}" if because else ""


def _connect(url: str | None, patience: float) -> Client:
    told: list[TransportError] = []

    def notice(error: TransportError) -> None:
        if not told:
            print(f"{error}; trying for up to {patience:g} s", file=sys.stderr)
        told.append(error)

    return Client(url, retry=Retry(patience, notice=notice))


def _fail(message: str, code: int) -> int:
    print(f"{ADD}: {message}", file=sys.stderr)
    return code
