"""Requests made from the OpenAPI schema, valid and malformed: never a 5xx, always as described."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from servers import RunningServer, in_base64, running

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKED = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def fuzz(client: RunningServer, requests: int) -> dict[int, int]:
    """Send so many requests to all operations with a body; return how many had each status."""
    url = str(client.base_url).rstrip("/")
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    operations = [operation for operation in found if operation.method == "post"]
    assert len(operations) == 8
    modes = list(schemathesis.GenerationMode)
    each = -(-requests // (len(operations) * len(modes)))
    statuses: dict[int, int] = {}
    chooser = random.Random(8)
    for operation in operations:
        for mode in modes:
            send(operation.as_strategy(mode), each, chooser, statuses)
    return statuses


def send(strategy: Any, number: int, chooser: random.Random, statuses: dict[int, int]) -> None:
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def test(case: Any) -> None:
        # A random text is hardly ever an image: half of the requests get a real one.
        if isinstance(case.body, dict) and "image" in case.body and chooser.random() < 0.5:
            case.body["image"] = in_base64()
        response = case.call()
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        case.validate_response(response, checks=CHECKED)

    test()


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def check_fuzz(client: RunningServer, requests: int) -> None:
    statuses = fuzz(client, requests)
    assert sum(statuses.values()) >= requests, statuses
    assert {200, 400, 422} <= set(statuses), statuses
    assert client.ask().json()["answers"][0]["answer"] == "yellow"


@pytest.mark.long
def test_malformed_requests_are_refused_as_described() -> None:
    with running() as client:
        check_fuzz(client, 160)


@pytest.mark.slow
def test_thousands_of_malformed_requests_leave_the_memory_flat() -> None:
    with running() as client:
        check_fuzz(client, 1000)
        before = resident_mib()
        check_fuzz(client, 5000)
        assert resident_mib() < 1.1 * before
