"""What a gateway refuses, in its own words, and every error in the form that it uses."""

from __future__ import annotations

import attrs

from palyra.console.models import Problem
from palyra.errors import GatewayUnreachable, PalyraError


@attrs.define
class GatewayRefused(PalyraError):
    """The gateway said no; its own sentence, code and hint are in ``problem``."""

    problem: Problem

    @property
    def sentence(self) -> str:
        return self.problem.error

    @property
    def hint(self) -> str:
        return self.problem.hint


@attrs.define
class AnswerUnreadable(GatewayUnreachable):
    """The gateway answered in a form of another version; asking again does not help."""


def problem_of(error: PalyraError) -> Problem:
    """What is shown of an error, in the form the gateway uses."""
    if isinstance(error, GatewayRefused):
        return error.problem
    return Problem(error.sentence, error.code, error.hint, error.category.value, error.retryable)
