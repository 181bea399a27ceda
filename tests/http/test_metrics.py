"""`GET /metrics`: what it counts, that it agrees with its page, and that counting is exact over threads and batches."""

import re
import threading
from collections.abc import Callable

import pytest
from http_helpers import ROOT, Api
from prometheus_client.parser import text_string_to_metric_families

from dispatcher.meters import FOLD_AT, Histogram, Totals
from dispatcher.routes import metrics


def scraped(api: Api) -> dict[str, float]:
    """Every sample, by its name with labels."""
    reply = api.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('taskmill_')}{{{labels}}}"] = sample.value
    return found


def test_tasks_are_counted_by_queue_type_and_state(api: Api) -> None:
    api.submit("a", queue="q")
    api.submit("a", queue="q")
    api.submit("b")
    lease = api.claim(task_types=["b"])["tasks"][0]
    api.advance(4)
    found = scraped(api)
    assert found["tasks{queue=q,state=pending,task_type=a}"] == 2
    assert found["tasks_ready{queue=q,task_type=a}"] == 2
    assert found["tasks{queue=default,state=in_progress,task_type=b}"] == 1
    assert found["tasks{queue=default,state=failed,task_type=b}"] == 0
    assert found["oldest_waiting_seconds{queue=q}"] == pytest.approx(4)
    assert found["oldest_waiting_seconds{queue=default}"] == 0
    assert lease["lease_id"]


def test_ends_are_counted_by_state(api: Api) -> None:
    for status in ("completed", "completed", "failed"):
        lease = api.lease(max_attempts=1)["lease_id"]
        api.report(api.outcome(lease, status, error="no", result=1, run_seconds=0.2))
    (waiting,) = api.submit_many(1)
    api.post(f"/task/{waiting}/cancel")
    found = scraped(api)
    states = ("completed", "failed", "cancelled")
    assert [found[f"tasks_finished_total{{state={state}}}"] for state in states] == [2, 1, 1]
    assert found["task_run_seconds_count{}"] == 3
    assert found["task_run_seconds_bucket{le=0.1}"] == 0
    assert found["task_run_seconds_bucket{le=0.25}"] == 3
    assert found["task_wait_seconds_count{}"] == 3


def test_an_end_that_is_undone_is_not_counted(api: Api) -> None:
    def fails(tx: object) -> None:
        tx.close_waiting([task])  # type: ignore[attr-defined]
        raise ValueError("undo it")

    task = api.submit()
    with pytest.raises(ValueError, match="undo it"):
        api.queue.store.write(fails)
    assert scraped(api)["tasks_finished_total{state=cancelled}"] == 0


def test_what_workers_say(api: Api) -> None:
    api.lease()
    api.beat(1, host={"outbox": 7, "quarantined": 2, "hostname": "x"})
    api.post("/heartbeat", {"worker_id": "old", "metadata": {"outbox": "many", "quarantined": 10**400}})
    found = scraped(api)
    assert found["worker_outbox_outcomes{worker_id=w-1}"] == 7
    assert "worker_outbox_outcomes{worker_id=old}" not in found
    assert "worker_quarantined{worker_id=old}" not in found
    assert found["worker_quarantined{worker_id=w-1}"] == 2
    assert found["worker_leases{worker_id=w-1}"] == 1
    assert found["workers_live{}"] == 2
    assert found["heartbeats_total{form=native}"] == 1
    assert found["heartbeats_total{form=classic}"] == 1


def test_requests_by_route_and_status(api: Api) -> None:
    api.submit()
    api.get("/task/1")
    api.get("/task/999")
    api.get("/nowhere/at/all")
    api.ask("BREW", "/nowhere")
    found = scraped(api)
    assert found["http_requests_total{method=POST,route=/submit-task,status=2xx}"] == 1
    assert found["http_requests_total{method=GET,route=/task/<int:task_id>,status=2xx}"] == 1
    assert found["http_requests_total{method=GET,route=/task/<int:task_id>,status=4xx}"] == 1
    assert found["http_requests_total{method=any,route=none,status=4xx}"] == 2


def test_commits_and_the_store(api: Api) -> None:
    before = scraped(api)
    api.submit()
    after = scraped(api)
    for name in ("store_commit_seconds_count{}", "store_group_operations_count{}", "store_group_operations_sum{}"):
        assert after[name] == before[name] + 1
    assert after["store_healthy{}"] == 1
    assert after["store_bytes{part=database}"] > 0
    assert after["process_cpu_seconds_total{}"] > 0


def test_a_scrape_writes_nothing(api: Api) -> None:
    before = api.version()
    scraped(api)
    assert api.version() == before


def test_it_needs_the_token(make_api: Callable[..., Api]) -> None:
    api = make_api(token="t0ken")
    assert api.ask("GET", "/metrics", headers={}).status == 401
    assert api.get("/metrics").status == 200


def test_openmetrics_when_it_is_asked_for(api: Api) -> None:
    reply = api.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")


def test_the_page_says_what_the_code_counts() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = set(re.findall(r"^\| `taskmill_(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", page, re.MULTILINE))
    totals = [(*metrics.REQUESTS, "counter")]
    totals += [(one.name, one.labels, one.meaning, one.kind) for one in metrics.MEASURED]
    totals += [(one.name, (), one.meaning, "histogram") for one in metrics.DISTRIBUTIONS]
    counted = set()
    for name, labels, meaning, kind in totals:
        suffix = "_total" if kind == "counter" else ""
        counted.add((f"{name}{suffix}", kind, ", ".join(f"`{label}`" for label in labels), meaning))
    assert told == counted


def test_every_metric_that_an_alert_names_is_counted(api: Api) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"\btaskmill_[a-z_]+", page.partition("## Alerts")[2]))
    api.submit()
    api.beat(1, host={"outbox": 0, "quarantined": 0})
    served = {f"taskmill_{name.partition('{')[0]}" for name in scraped(api)}
    assert len(named) > 5
    assert named <= served


# counting


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 2, 5))
    histogram.add([2, 1, 3, 7, 0.5])
    reading = histogram.read()
    assert reading.at_most == ((1, 2), (2, 3), (5, 4))
    assert (reading.number, reading.total) == (5, 13.5)


def test_nothing_is_lost_between_threads_that_add_and_one_that_reads() -> None:
    histogram, totals, batches = Histogram((1,)), Totals(), 20 * FOLD_AT
    seen: list[int] = []

    def add() -> None:
        for _ in range(batches):
            histogram.add((0.5, 1.5))
            totals.add("x")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(histogram.read().number)
    assert seen == sorted(seen)
    assert histogram.read() == (((1, 4 * batches),), 8 * batches, 8.0 * batches)
    assert totals.read() == {("x",): 4 * batches}
