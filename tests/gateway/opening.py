"""The gateway's real identity in a directory of a test, as a start finds it."""

from __future__ import annotations

import os
from pathlib import Path

from palyra.pki.keystore import GatewayIdentity
from tests.gateway.enrolling import DOMAIN
from tests.store.samples import NOW_MS


def opened(path: Path, now_ms: int = NOW_MS) -> GatewayIdentity:
    """Made at the first time, then loaded; what no restart keeps is gone."""
    return GatewayIdentity.open(
        path,
        trust_domain=DOMAIN,
        names=[],
        gateway_id="g1",
        now_ms=now_ms,
        entropy=os.urandom,
        environ={},
    )
