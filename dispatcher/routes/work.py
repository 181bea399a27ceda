"""What workers say: claims, reports, heartbeats, deaths, large results (docs/protocol.md)."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flask import Blueprint, request

from common import json_profile
from dispatcher.clock import moment
from dispatcher.config import DispatcherSettings
from dispatcher.errors import Invalid, NotFound, TooLarge
from dispatcher.model import LeaseName, Orders, Progress
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.death import Death
from dispatcher.queue.heartbeat import Heartbeat
from dispatcher.queue.uploads import bounded
from dispatcher.routes import attempts, body, outcomes, show, worker_models
from dispatcher.routes.direct import Direct

PART_BYTES = 2**20
PARTIAL_BYTES = 64 * 1024
HOST_CHARS = 64 * 1024  # it is kept in memory


def blueprint(queue: Queue, result_max_bytes: int, direct: Direct) -> Blueprint:
    """The views."""
    views = Blueprint("work", __name__)
    store_id = queue.store.store_id

    @direct.post(views, "/get-tasks")
    def get_tasks(sent: bytes) -> show.Reply:
        asked = body.parse(worker_models.Claim, sent)
        answer = queue.claim(_waiting_claim(asked))
        return show.envelope(show.claimed(answer, store_id, asked.brief))

    @direct.post(views, "/submit-results")
    def submit_results(sent: bytes) -> show.Reply:
        asked = body.parse(worker_models.Report, sent)
        judged = outcomes.check(asked.outcomes, store_id)
        then = _claim(asked.claim, asked.worker_id, asked.instance_id, 0) if asked.claim else None
        good = [bounded(outcome, result_max_bytes) for outcome, _, _ in judged if outcome is not None]
        verdicts, orders, claimed = queue.report(good, asked.instance_id, then)
        rest = f',"claim":{show.claimed(claimed, store_id, asked.claim.brief)}' if asked.claim and claimed else ""
        told = outcomes.told(asked.outcomes, judged, verdicts, asked.brief)
        return show.envelope(f'{{"verdicts":{told},"orders":{json_profile.encode(orders.as_dict())}{rest}}}')

    @direct.post(views, "/heartbeat")
    def heartbeat(sent: bytes) -> show.Reply:
        value = body.parse_object(sent)
        if "instance_id" not in value:
            return _classic_heartbeat(queue, body.validate(worker_models.ClassicHeartbeat, value))
        return _native_heartbeat(queue, store_id, body.validate(worker_models.Heartbeat, value))

    @views.post("/report-death")
    def report_death() -> show.Reply:
        asked = body.parse(worker_models.Death)
        recorded = queue.report_death(asked.store_id, _death(asked))
        return show.success({"verdict": "recorded", **recorded._asdict()} if recorded else {"verdict": "foreign"})

    return views


def upload_blueprint(queue: Queue, settings: DispatcherSettings) -> Blueprint:
    """The view for results too large, or too binary, for a report."""
    views = Blueprint("upload", __name__)

    @views.put("/result/<lease_id>")
    def put_result(lease_id: str) -> show.Reply:
        body.known_arguments("store_id")
        name = LeaseName.parse(lease_id)
        if name is None:
            raise NotFound(f"lease {lease_id[:64]}")
        if "Transfer-Encoding" in request.headers:  # only a declared length shows that an upload was cut short
            raise Invalid("Transfer-Encoding", "an upload needs Content-Length instead")
        if request.content_length is not None and request.content_length > settings.result_max_bytes:
            raise TooLarge("result", request.content_length, settings.result_max_bytes)
        digest = hashlib.sha256()
        parts = _parts(digest, settings.result_max_bytes)
        media_type = (request.content_type or "application/octet-stream")[:128]
        upload = queue.upload(name, request.args.get("store_id", ""), media_type, parts, digest)
        return show.success({"lease_id": lease_id, "bytes": upload.bytes, "sha256": upload.sha256})

    return views


def _claim(asked: worker_models.ClaimTerms, worker_id: str, instance_id: str, wait_seconds: float) -> Claim:
    if asked.protocol != 1:
        raise Invalid("protocol", "this dispatcher speaks protocol 1")
    return Claim(
        worker_id=worker_id,
        instance_id=instance_id,
        request_id=asked.request_id,
        max_tasks=asked.max_tasks,
        task_types=None if asked.task_types is None else frozenset(asked.task_types),
        queues=None if asked.queues is None else frozenset(asked.queues),
        labels=frozenset(asked.labels),
        wait_ms=int(wait_seconds * 1000),
        orders=Orders(asked.orders.state, tuple(asked.orders.cancel), asked.orders.now),
    )


def _waiting_claim(asked: worker_models.Claim) -> Claim:
    claim = _claim(asked, asked.worker_id, asked.instance_id, asked.wait_seconds)
    return replace(claim, host=_host(asked.host)) if claim.wait_ms else claim


def _host(said: Any) -> str | None:
    """As a heartbeat says it; what cannot be used is left out, for no claim is refused over it."""
    if not isinstance(said, dict):
        return None
    with suppress(Invalid):
        text = body.text_of(said, "host")
        return text if len(text) <= HOST_CHARS else None
    return None


def _death(asked: worker_models.Death) -> Death:
    if asked.dead_instance_id == asked.instance_id:
        raise Invalid("dead_instance_id", "nobody reports its own death")
    names = (asked.worker_id, asked.instance_id, asked.dead_worker_id, asked.dead_instance_id)
    return Death(*names, tuple(asked.outbox_leases), tuple(asked.started_leases))


def _farewell(beat: worker_models.Heartbeat) -> Death:
    """Who leaves holds nothing, so nothing is adopted or charged; a lease that never reached it is given back."""
    return Death(beat.worker_id, beat.instance_id, beat.worker_id, beat.instance_id, (), ())


def _parts(digest: Any, limit: int) -> Iterator[bytes]:
    """The body in parts of a mebibyte, hashed as they pass; of an empty one an empty part. Raises TooLarge."""
    size = 0
    while (part := _read_exactly(PART_BYTES)) or not size:
        size += len(part)
        if size > limit:
            raise TooLarge("result", None, limit)
        digest.update(part)
        yield part
        if not part:
            return


def _read_exactly(size: int) -> bytes:
    pieces = []
    while size and (piece := request.stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _heartbeat(asked: worker_models.Heartbeat) -> Heartbeat:
    types = asked.register_.task_types if asked.register_ else None
    schemas = None if types is None else {name: _text(s, f"register.task_types.{name}") for name, s in types.items()}
    return Heartbeat(
        worker_id=asked.worker_id,
        instance_id=asked.instance_id,
        seq=asked.seq,
        leases={lease.lease_id: _progress(lease, f"leases[{n}]") for n, lease in enumerate(asked.leases)},
        in_flight=frozenset(asked.claims_in_flight),
        host=_text(asked.host, "host"),
        store_id=asked.store_id,
        types=schemas,
        about=_about(asked.register_) if asked.register_ else None,
        defaults=attempts.defaults_of(asked.register_) if asked.register_ else None,
    )


def _about(said: worker_models.Registration) -> str:
    """What is kept of a registration; of the task types their names, for their schemas have a place of their own."""
    told = said.model_dump(exclude={"task_types"}, exclude_none=True)
    return json_profile.dump({**told, "task_types": sorted(said.task_types)})


def _text(value: Any, field: str) -> str | None:
    return None if value is None else body.text_of(value, field)


def _progress(lease: worker_models.ListedLease, field: str) -> Progress | None:
    name = LeaseName.parse(lease.lease_id)
    news = (lease.progress, lease.note, lease.checkpoint, lease.partial, lease.log)
    if name is None or all(part is None for part in news):
        return None
    done, total = (lease.progress.done, lease.progress.total) if lease.progress else (None, None)
    checkpoint = _text(lease.checkpoint, f"{field}.checkpoint")
    return Progress(name, done, total, lease.note, checkpoint, _partial(lease, field), outcomes.log_part(lease.log))


def _partial(lease: worker_models.ListedLease, field: str) -> str | None:
    """One that is too large is left out: a heartbeat that is refused would cost the worker its leases."""
    text = _text(lease.partial, f"{field}.partial")
    return text if text is None or len(text.encode()) <= PARTIAL_BYTES else None


def _native_heartbeat(queue: Queue, store_id: str, beat: worker_models.Heartbeat) -> show.Reply:
    answer = queue.heartbeat(_heartbeat(beat))
    if beat.leaving and answer.taken and not beat.leases:
        queue.report_death(store_id, _farewell(beat))
    data = {"worker_id": beat.worker_id, "status": "alive", "last_heartbeat": moment(answer.at)}
    told = {"leases": answer.leases, "orders": answer.orders.as_dict(), "wait_seconds": queue.terms.wait_ms / 1000,
            "death_seconds": queue.terms.silence_ms / 1000}  # fmt: skip
    return show.success({**data, "store_id": store_id, **told})


def _classic_heartbeat(queue: Queue, beat: worker_models.ClassicHeartbeat) -> show.Reply:
    at = queue.heartbeat_classic(beat.worker_id, _text(beat.metadata, "metadata"))
    data = {"worker_id": beat.worker_id, "status": beat.status, "last_heartbeat": moment(at)}
    return show.success(data, message="Heartbeat received")
