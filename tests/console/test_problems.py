"""Refusals: their status, their body, and when to try again."""

from __future__ import annotations

import msgspec
import pytest

from palyra.console.problems import problem_of
from palyra.errors import (
    ApprovalFinal,
    CapabilityDisabled,
    Category,
    DeviceOffline,
    DiskFull,
    Draining,
    ExpressionInvalid,
    IdempotencyConflict,
    InputInvalid,
    JobFinal,
    JobStillRunning,
    LimitReached,
    Malformed,
    NameTaken,
    NoTargets,
    NotFound,
    NotRegistered,
    PalyraError,
    PayloadTooLarge,
    PolicyDenied,
    QueueFull,
    TooManyTargets,
)
from tests.console.asking import Console


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("ttl_ms", "is wrong"), 400),
        (PolicyDenied("ana", "do that", "no"), 403),
        (NotFound("device", "pi"), 404),
        (ApprovalFinal("ABCD", "approved"), 409),
        (DeviceOffline("pi"), 412),
        (NotRegistered(), 412),
        (CapabilityDisabled("pi", "echo"), 412),
        (ExpressionInvalid("--where", "expected a value", 18, "label.site in ("), 400),
        (TooManyTargets(20_000, 10_000), 400),
        (NoTargets("platform = x"), 404),
        (JobFinal("ABCD", "succeeded"), 409),
        (IdempotencyConflict("ABCD"), 409),
        (NameTaken("pi"), 409),
        (PayloadTooLarge("input", 2, 1), 413),
        (QueueFull("pi", 10), 429),
        (Draining(), 503),
        (JobStillRunning("ABCD", "dispatched"), 504),
        (PalyraError(), 500),
    ],
)
def test_refusals(console: Console, error: PalyraError, status: int) -> None:
    """Each error has its status, and the body says what the error says."""
    console.control.answers["node"] = error
    given, answer, headers = console.ask("GET", "/nodes/pi")
    assert given == status
    assert answer == msgspec.to_builtins(problem_of(error))
    assert (answer["error"], answer["hint"]) == (error.sentence, error.hint)
    assert (answer["category"], answer["retryable"]) == (error.category.value, error.retryable)
    assert headers.getRawHeaders("content-type") == ["application/json"]
    assert headers.getRawHeaders("cache-control") == ["no-store"]
    assert headers.hasHeader("retry-after") == (status in (429, 503))


def test_every_category_has_a_status(console: Console) -> None:
    """An error of any category is answered, never dropped."""
    for category in Category:

        class Odd(PalyraError):
            pass

        Odd.category = category
        console.control.answers["node"] = Odd()
        assert console.ask("GET", "/nodes/pi")[0] >= 400


def test_when_to_try_again(console: Console) -> None:
    """An error that knows says it in whole seconds, at least one."""
    for after_s, header in ((60.4, "60"), (0.2, "1")):
        console.control.answers["node"] = LimitReached("sessions", 3, after_s)
        _, _, headers = console.ask("GET", "/nodes/pi")
        assert headers.getRawHeaders("retry-after") == [header]


@pytest.mark.parametrize("error", [Draining(), DiskFull("/var/lib/palyra")])
def test_when_to_try_again_is_never_left_open(console: Console, error: PalyraError) -> None:
    """Where the error does not know, a 503 says five seconds."""
    console.control.answers["submit"] = error
    status, _, headers = console.ask("POST", "/jobs", b'{"capability":"echo"}')
    assert status == 503
    assert headers.getRawHeaders("retry-after") == ["5"]


def test_every_field_of_an_input_that_is_wrong() -> None:
    """Each is named by itself, so that a form can say it there."""
    wrong = [("input.a", "is required"), ("input.b[2]", "must be at most 5 (got 7)")]
    body = problem_of(InputInvalid.of(wrong, "acme.lamp", "pi"))
    assert body.validation_errors == [{"field": f, "problem": p} for f, p in wrong]
    assert body.error == "input.a: is required.\ninput.b[2]: must be at most 5 (got 7)."
    assert problem_of(InputInvalid("input", "is not JSON")).validation_errors == [
        {"field": "input", "problem": "is not JSON"}
    ]


@pytest.mark.parametrize("field", ["--where", "where"])
def test_where_an_expression_is_wrong(console: Console, field: str) -> None:
    """The key of the request is named, and the column counts from 1."""
    console.control.answers["nodes"] = ExpressionInvalid(field, "expected a value", 9, "a.b in (")
    status, answer, _ = console.ask("GET", "/nodes?where=a.b%20in%20(")
    assert (status, answer["code"]) == (400, "expression_invalid")
    assert answer["validation_errors"] == [
        {"field": "where", "problem": "expected a value", "column": 9}
    ]
