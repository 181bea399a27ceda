"""The first page: whether the farm works, at a glance."""

from typing import Any

from flask import Blueprint, render_template, request
from markupsafe import Markup

from dispatcher.dashboard.charts import Line, chart
from dispatcher.errors import Invalid
from dispatcher.queue import Queue, browse, farm, queues
from dispatcher.queue.find import Find
from dispatcher.queue.history import SPANS, Point, series
from dispatcher.queue.overview import look

SPANS_SAID = {"5m": "5 minutes", "1h": "1 hour", "24h": "24 hours"}
SHOWN = 5


def add(views: Blueprint, queue: Queue) -> None:
    """The view."""

    @views.get("/", strict_slashes=False)
    def overview() -> str:
        span = request.args.get("span", "5m")
        if span not in SPANS:
            raise Invalid("span", f"must be one of {', '.join(SPANS)}")
        seen = look(queue)
        groups, looked = browse.failures(queue, Find())
        return render_template(
            "overview.html", farm=farm.judged(queue, seen), workers=seen.workers, span=span, spans=SPANS_SAID,
            charts=_charts(series(queue, SPANS[span], queue.now().wall), SPANS_SAID[span]),
            queues=queues.listed(queue), failures=groups[:SHOWN], looked=looked, more=len(groups) - SHOWN,
        )  # fmt: skip


def _charts(points: list[Point], length: str) -> list[dict[str, Any]]:
    ends = (f"{length} ago", "now")

    def one(title: str, unit: str, lines: list[Line], least: float) -> dict[str, Any]:
        drawn: Markup = chart(title, lines, unit, ends, least)
        return {"title": title, "svg": drawn, "lines": lines}

    ready = [float(p.ready) for p in points]
    running = [float(p.running) for p in points]
    return [
        one("Ended per second", "number", [Line("ended", "good", [p.per_second for p in points])], 1.0),
        one("Waiting and running", "number", [Line("waiting", "calm", ready), Line("running", "good", running)], 5.0),
        one("Time to run", "length", [Line("median", "good", [p.run_p50 for p in points]),
                                      Line("95 %", "warn", [p.run_p95 for p in points])], 0.01),
        one("Time in line", "length", [Line("median", "calm", [p.wait_p50 for p in points]),
                                       Line("95 %", "warn", [p.wait_p95 for p in points])], 0.01),
        one("Failed attempts", "share", [Line("failed", "bad", [p.failed_share for p in points])], 0.05),
    ]  # fmt: skip
