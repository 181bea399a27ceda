"""What the dispatcher says of the outcomes in a report."""

from collections.abc import Sequence
from typing import Any

from client.transport import BadReply

Verdict = dict[str, Any]  # lease_id, verdict and perhaps the reason
_DEFINITIVE = frozenset(("accepted", "accepted_late", "duplicate", "superseded", "cancelled"))
_ACCEPTED: Verdict = {"verdict": "accepted"}


def of(data: Any, lease_ids: Sequence[str]) -> list[Verdict]:
    """Those of a well-formed reply, in the order of the outcomes; raises BadReply for any other."""
    try:
        told = data["verdicts"]
        if told == _ACCEPTED["verdict"]:  # one word for all
            return [_ACCEPTED] * len(lease_ids)
        well_formed = [one["lease_id"] for one in told] == lease_ids and all(one["verdict"] for one in told)
    except (KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise BadReply("/submit-results", "not one verdict for each outcome")
    return list(told)


def refused(told: Sequence[Verdict]) -> list[int]:
    """The places of those that are not definitive: these outcomes are kept."""
    return [place for place, one in enumerate(told) if one["verdict"] not in _DEFINITIVE]


def settled(lease_ids: Sequence[str], told: Sequence[Verdict]) -> list[str]:
    """The leases with a definitive verdict."""
    return [lease_id for lease_id, one in zip(lease_ids, told, strict=True) if one["verdict"] in _DEFINITIVE]
