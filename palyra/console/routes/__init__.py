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

__all__ = ["ROUTES"]

ROUTES = (
    *nodes.ROUTES,
    *devices.ROUTES,
    *pairing.ROUTES,
    *approvals.ROUTES,
    *jobs.ROUTES,
    *live.ROUTES,
    *access.ROUTES,
    *audit.ROUTES,
    *gateway.ROUTES,
)
