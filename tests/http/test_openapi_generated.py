"""Generated requests, good and bad, for every operation of the OpenAPI document: whatever is asked, the reply is one
that the document promises (schemathesis)."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from http_helpers import Api, FakeClock
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from dispatcher.app import create_app
from dispatcher.routes.api.document import document

TOKEN = "the-token"
EXAMPLES, EXAMPLES_LONG = 4, 40
NOT_HELD = [positive_data_acceptance]  # rules between fields are said in words
PATHS = {path: item for path, item in document()["paths"].items() if not path.endswith("/events")}  # which never end
LABELS = [f"{method.upper()} {path}" for path, item in PATHS.items() for method in item]


class NoMoves:
    """Begins nothing, so that no generated address is called."""

    def begin(self, to: str, source: str | None, dry_run: bool) -> None:
        self.to = to

    def told(self) -> dict[str, Any]:
        return {"phase": "checking", "to": ""}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    api = Api(tmp_path_factory.mktemp("generated"), FakeClock(), token=TOKEN)
    app = create_app(api.queue, api.settings, NoMoves())  # type: ignore[arg-type]
    for n in range(3):  # something to find
        api.submit("noop", tags=["t"], queue=f"q{n}")
    api.lease()
    api.beat(1)
    api.post("/schedules", {"name": "nightly", "every": "1h", "task": {"task_type": "noop"}})
    found = schemathesis.openapi.from_wsgi("/openapi.json", app, headers={"Authorization": f"Bearer {TOKEN}"})
    yield found
    api.close()


def hurried(case: Any) -> Any:
    """Nobody waits for what a generated request would wait for."""
    if isinstance(case.query, dict) and "wait" in case.query and _is_length(case.query["wait"]):
        case.query["wait"] = 0
    for part in (case.body, case.body.get("claim") if isinstance(case.body, dict) else None):
        if isinstance(part, dict) and _is_length(part.get("wait_seconds")):
            part["wait_seconds"] = 0
    return case


def _is_length(value: Any) -> bool:
    try:
        return 0 <= float(value) <= 25
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize("label", LABELS)
def test_replies_are_those_that_the_document_promises(schema: Any, label: str, request: pytest.FixtureRequest) -> None:
    operation = schema.find_operation_by_label(label)
    examples = EXAMPLES_LONG if request.config.getoption("--long") else EXAMPLES

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case: Any) -> None:
        hurried(case).call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=NOT_HELD)

    cases = operation.as_strategy()
    if operation.body or any(parameters for parameters in (operation.path_parameters, operation.query)):
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    given(case=cases)(check)()
