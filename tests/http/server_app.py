"""A server process for test_server.py:  python -m tests.http.server_app '{"<constant of dispatcher.server>": …}'"""

import json
import logging
import sys
import threading
from typing import Any

from flask import Flask, Response, abort, request

from dispatcher import server

app = Flask(__name__)
stopping = threading.Event()
woken = threading.Condition()
parked = 0
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
    global parked
    with woken:
        parked += 1
        seen = times_woken
        woken.wait_for(lambda: times_woken > seen, 25)
        parked -= 1
    return "woken"


@app.get("/parked")
def count_parked() -> str:
    return str(parked)


@app.post("/wake")
def wake() -> str:
    global times_woken
    with woken:
        times_woken += 1
        woken.notify_all()
    return "done"


@app.post("/finish-after-stop")
def finish_after_stop() -> str:
    stopping.wait(25)
    return "finished"


@app.post("/hang")
def hang() -> str:
    threading.Event().wait(25)
    return "too late"


@app.get("/chunks")
def chunks() -> Response:
    return Response(str(number) for number in range(3))


def on_stop() -> None:
    print("on_stop", flush=True)  # noqa: T201
    wake()
    stopping.set()


def main(options: dict[str, Any]) -> int:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    port, threads = options.pop("port", 0), options.pop("threads", 64)
    for name, value in options.items():
        setattr(server, name, value)
    try:
        listener = server.listen("127.0.0.1", port)
    except server.CannotListen as error:
        print(error, flush=True)  # noqa: T201
        return 2
    return server.serve(app, listener, threads=threads, body_limit=1000, on_stop=on_stop)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
