"""``devices``: labels, grants, certificates, and the end of trust."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from palyra.console import models
from palyra.console.routing import Asked, Controls, Route
from palyra.core.operators import Right
from palyra.errors import Malformed

_ADMIN = Right.ADMINISTER


def _rotate_one(of: Controls, asked: Asked) -> Deferred[Any]:
    """The path names the device: a body that chooses others says two things."""
    body: models.Rotate = asked.body
    if body.targets or body.where or body.everything:
        raise Malformed("body", "chooses devices, and so does the path")
    return of.gateway.rotate(models.Rotate([asked.target], reason=body.reason), asked.caller)


ROUTES = (
    Route(
        "POST",
        "devices/rotate",
        "rotate_devices",
        "Order new certificates from some devices, or from all.",
        lambda of, asked: of.gateway.rotate(asked.body, asked.caller),
        models.RotateAnswer,
        _ADMIN,
        models.Rotate,
        example={"where": "label.site = prague", "reason": "the yearly move"},
    ),
    Route(
        "POST",
        "devices/clear",
        "clear_devices",
        "Remove every device that is revoked.",
        lambda of, asked: of.gateway.clear(asked.body, asked.caller),
        models.ClearAnswer,
        _ADMIN,
        models.Remove,
    ),
    Route(
        "POST",
        "devices/{target}/labels",
        "label_device",
        "Change a device's name and labels.",
        lambda of, asked: of.gateway.label(asked.target, asked.body, asked.caller),
        models.NodeAnswer,
        _ADMIN,
        models.LabelNode,
        example={"name": "pi", "labels": {"site": "prague", "lab": ""}, "unlabel": ["floor"]},
    ),
    Route(
        "POST",
        "devices/{target}/grants",
        "grant_capabilities",
        "Grant capabilities to a device, or withhold them.",
        lambda of, asked: of.gateway.grant(asked.target, asked.body, asked.caller),
        models.NodeAnswer,
        _ADMIN,
        models.GrantNode,
        example={"grant": ["system.health"], "withhold": ["files.fetch"]},
    ),
    Route(
        "POST",
        "devices/{target}/rotate",
        "rotate_device",
        "Order a new certificate from one device.",
        _rotate_one,
        models.RotateAnswer,
        _ADMIN,
        models.Rotate,
    ),
    Route(
        "POST",
        "devices/{target}/revoke",
        "revoke_device",
        "Take a device's trust away: its sessions end within a second.",
        lambda of, asked: of.gateway.revoke(asked.target, asked.body, asked.caller),
        models.RevokeAnswer,
        _ADMIN,
        models.Revoke,
        example={"reason": "it was stolen"},
    ),
    Route(
        "POST",
        "devices/{target}/remove",
        "remove_device",
        "Forget a device; one that was not revoked is revoked by it.",
        lambda of, asked: of.gateway.remove(asked.target, asked.body, asked.caller),
        models.RemoveAnswer,
        _ADMIN,
        models.Remove,
    ),
)
