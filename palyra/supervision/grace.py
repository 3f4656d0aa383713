"""How long a node host may take to stop."""

from __future__ import annotations

from pathlib import Path

from palyra.config import load
from palyra.config.node import NodeSection
from palyra.errors import PalyraError

BEYOND_S = 20.0
"""What a node host needs to close, after the grace of its jobs."""
LONGEST_S = 600.0
"""The longest grace that can be configured."""


def grace_s(state_root: Path) -> float:
    """What running jobs get at a stop; where the settings cannot be read, what they would be."""
    try:
        return load(state_root / "palyra.toml", required=False).node.shutdown_grace_s
    except (PalyraError, OSError):
        return NodeSection().shutdown_grace_s
