"""Every route of ``/console/v1``, by subject."""

from palyra.console.routes import (
    access,
    approvals,
    audit,
    devices,
    gateway,
    jobs,
    live,
    nodes,
    pairing,
)
from palyra.console.routing import Subject

__all__ = ["ROUTES", "SUBJECTS"]

SUBJECTS = (
    Subject("inventory", "The devices, as they are listed and used.", nodes.ROUTES),
    Subject("devices", "Labels, grants, certificates, and the end of trust.", devices.ROUTES),
    Subject("pairing", "Codes, and the devices that ask with them.", pairing.ROUTES),
    Subject("approvals", "What waits for an operator's yes, and what was said.", approvals.ROUTES),
    Subject("jobs", "What was asked of devices, and what became of it.", jobs.ROUTES),
    Subject("events", "What changes, while it changes.", live.ROUTES),
    Subject("operators", "Who may do what, and how they sign in.", access.ROUTES),
    Subject("audit", "The chain of what was done.", audit.ROUTES),
    Subject("gateway", "The gateway itself: its CAs, its state, its health.", gateway.ROUTES),
)
ROUTES = tuple(route for subject in SUBJECTS for route in subject.routes)
