"""A server process for test_server.py:  python -m tests.http.server_app '{"<constant of dispatcher.server>": …}'"""

import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, abort, request

from dispatcher import process, server

app = Flask(__name__)
stopping = False
woken = threading.Condition(threading.RLock())
waiting = 0
times_woken = 0


@app.before_request
def authorise() -> None:
    if request.headers.get("Authorization") != "Bearer right":
        abort(401)


@app.post("/echo")
def echo() -> bytes:
    return request.get_data()


@app.post("/park")
def park() -> str:
    with woken:
        seen = times_woken
        wait(lambda: times_woken > seen)
    return "woken"


def wait(true: Callable[[], bool]) -> None:
    global waiting
    with woken:
        waiting += 1
        woken.wait_for(true, 25)
        waiting -= 1


@app.get("/waiting")
def count_waiting() -> str:
    return str(waiting)


@app.post("/wake")
def wake() -> str:
    global times_woken
    with woken:
        times_woken += 1
        woken.notify_all()
    return "done"


@app.post("/finish-after-stop")
def finish_after_stop() -> str:
    wait(lambda: stopping)
    return "finished"


@app.post("/hang")
def hang() -> str:
    wait(lambda: False)
    return "too late"


@app.get("/chunks")
def chunks() -> Response:
    return Response(str(number) for number in range(3))


def on_stop() -> None:
    global stopping
    print("on_stop", flush=True)  # noqa: T201
    stopping = True
    wake()


def main(options: dict[str, Any]) -> int:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    port, threads = options.pop("port", 0), options.pop("threads", 64)
    for name, value in options.items():
        setattr(server, name, value)
    try:
        listener = process.listen("127.0.0.1", port)
    except process.CannotListen as error:
        print(error, flush=True)  # noqa: T201
        return 2
    return server.serve(app, listener, threads=threads, body_limit=1000, on_stop=on_stop)


if __name__ == "__main__":
    process.leave(main(json.loads(sys.argv[1])))
