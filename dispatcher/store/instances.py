"""The contract of a store about instances: who they are, when they were seen, orders to them.

A part of `base.py`, whose promises hold here as well.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dispatcher.model import Instance


class InstanceOps(Protocol):
    """Operations inside a transaction."""

    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this secret id, if it is known."""

    def classic(self, worker_id: str) -> Instance | None:
        """The classic instance of this worker_id, if it is known."""

    def meet(self, instance_id: str | None, worker_id: str) -> Instance:
        """The instance, made when it is new, locked; without an id the classic instance of the worker_id."""

    def meet_at_once(self, instance_id: str, worker_id: str) -> Instance | None:
        """The same without waiting: None while another dispatcher has the instance in hand."""

    def seen(self, instance: int, seq: int, host: str | None) -> None:
        """Record an answered heartbeat: its time, its number and, unless None, the host metadata as JSON text."""

    def seen_waiting(self, hosts: Mapping[str, str | None]) -> None:
        """Record that these instances, by their secret ids, are here and wait: the time and, unless None, the host
        metadata. Those that are not known, or dead, stay so."""

    def answered(self, instance: int, request: int) -> None:
        """Raise the instance's highest answered claim number."""

    def bury(self, instance: int) -> None:
        """Record the instance's death; the first time counts."""

    def remembered(self, worker_id: str) -> str | None:
        """The order that a new instance of this worker_id begins with; until this transaction is over, no order comes
        between. None: run."""

    def order_worker(self, worker_id: str, ordered: str | None, remember: str | None) -> list[int] | None:
        """Order the living instances of a worker_id, and remember it (`run`, `quiet`, `sleep`) for those to come unless
        that is None; whom it reached, or None when nobody of that name was ever seen. No claim under way gets more
        after it."""

    def ordered(self, instances: Sequence[int]) -> Mapping[int, str]:
        """The orders (`quiet`, `sleep`, `stop`, the latter two with `_now`) of those of the instances that have one."""

    def register(self, instance: int, about: str) -> None:
        """Record what an instance says of itself (JSON text)."""

    def register_types(self, schemas: Mapping[str, str | None]) -> None:
        """Remember the payload schema (JSON text) of each task type."""
