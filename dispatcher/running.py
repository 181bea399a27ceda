"""What runs in a dispatcher: the loops and the server, over a store that is open."""

import gc
import logging
import socket

from dispatcher import outward, server
from dispatcher.app import create_app
from dispatcher.config import BODY_LIMIT, VERSION, DispatcherSettings
from dispatcher.maintenance.attempts import Attempts
from dispatcher.maintenance.attendance import Attendance
from dispatcher.maintenance.courier import Courier
from dispatcher.maintenance.herald import Herald
from dispatcher.maintenance.historian import Historian
from dispatcher.maintenance.limiter import Limiter
from dispatcher.maintenance.loop import Loop
from dispatcher.maintenance.pruner import Pruner
from dispatcher.maintenance.reaper import Reaper
from dispatcher.maintenance.recurring import Recurring
from dispatcher.maintenance.scheduler import Scheduler
from dispatcher.maintenance.waker import Waker
from dispatcher.move.moves import Moves
from dispatcher.queue import Queue
from dispatcher.store.base import Store

log = logging.getLogger("taskmill")
MOST_STREAMS = 100  # of events; each holds a thread
SPARE_THREADS = 64  # not held by requests that wait: heartbeats and reports must not queue behind claims


def serve(settings: DispatcherSettings, listener: socket.socket, store: Store) -> int:
    """Serves until a signal; the exit code, for `process.leave`."""
    place = "DATABASE_URL" if settings.database_url else settings.db_path
    log.info("Taskmill %s, %s, %s", VERSION, place, store.describe())
    spare, streams = min(SPARE_THREADS, settings.threads // 4), max(1, min(MOST_STREAMS, settings.threads // 8))
    queue = Queue(store, settings.terms, settings.threads - spare - streams, streams)
    moves = Moves(queue, settings.database_notify)
    courier = _courier(queue, settings)
    loops = _loops(queue, settings, courier)
    for loop in loops:
        loop.start()
    try:
        app = create_app(queue, settings, moves)
        gc.freeze()  # what is there by now stays
        limit = BODY_LIMIT + 1  # of a body of undeclared length; routes/body.py says the limit by name
        return server.serve(app, listener, threads=settings.threads, body_limit=limit, on_stop=queue.drain)
    finally:
        for loop in loops:
            loop.stop()
        if courier is not None:
            courier.close()
        moves.stop()
        queue.store.close()


def _courier(queue: Queue, settings: DispatcherSettings) -> Courier | None:
    if not settings.webhook_secret:
        return None
    allow = outward.networks(settings.webhook_allow)
    poster = outward.Poster(outward.key_of(settings.webhook_secret), allow, f"taskmill/{VERSION}")
    return Courier(queue, poster.post)


def _loops(queue: Queue, settings: DispatcherSettings, courier: Courier | None) -> list[Loop]:
    looking = Waker(queue)
    waker = Loop(looking, looking.pause, queue.now)
    queue.on_news(waker.hurry)
    herald = Herald(queue)
    heralding = Loop(herald, herald.pause, queue.now)
    queue.events.hurry = heralding.hurry
    pruner = Pruner(queue, settings.retention_ms)
    hooks = []
    if courier is not None:
        hooks.append(Loop(courier, 0.5, queue.now))
        courier.hurry = hooks[0].hurry
    steps = ((Reaper(queue), 1.0), (Attempts(queue), 0.5), (pruner, 60.0))
    limiter = Limiter(queue)
    limiting = Loop(limiter, limiter.pause, queue.now)
    queue.waiting.hurry = limiting.hurry
    waited_for = (Scheduler(queue), Recurring(queue), Historian(queue), Attendance(queue))
    timed = (Loop(step, step.pause, queue.now) for step in waited_for)
    return [waker, heralding, limiting, *hooks, *timed, *(Loop(step, interval, queue.now) for step, interval in steps)]
