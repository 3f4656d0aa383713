"""``ca``, ``crl.pem``, ``state`` and ``doctor``: the gateway itself."""

from __future__ import annotations

from palyra.console import models
from palyra.console.routing import PEM, Route
from palyra.core.operators import Right

_ADMIN = Right.ADMINISTER

ROUTES = (
    Route(
        "GET",
        "ca",
        "show_ca",
        "Show the CAs of this gateway, and who is left in a rotation.",
        lambda of, asked: of.gateway.ca(),
        models.CaAnswer,
    ),
    Route(
        "POST",
        "ca/rotate",
        "rotate_ca",
        "Begin to move all devices to a new CA.",
        lambda of, asked: of.gateway.rotate_ca(asked.body, asked.caller),
        models.CaAnswer,
        _ADMIN,
        models.RotateCa,
    ),
    Route(
        "GET",
        "crl.pem",
        "show_crl",
        "The signed certificate revocation lists, one of each CA.",
        lambda of, asked: of.gateway.crl(),
        bytes,
        media_type=PEM,
    ),
    Route(
        "GET",
        "state",
        "show_state",
        "Say whether devices are served.",
        lambda of, asked: of.gateway.state(),
        models.StateAnswer,
    ),
    Route(
        "POST",
        "state/confirm",
        "confirm_state",
        "Confirm the revocations of a restored state: devices are served.",
        lambda of, asked: of.gateway.confirm_state(asked.caller),
        models.StateAnswer,
        _ADMIN,
        models.ConfirmState,
    ),
    Route(
        "GET",
        "doctor",
        "doctor",
        "What only the running gateway can check of itself.",
        lambda of, asked: of.gateway.health(),
        models.Health,
    ),
)
