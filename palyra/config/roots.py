"""Where state lives when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

ENVIRONMENT = "PALYRA_STATE_ROOT"


def default_state_root() -> Path:
    """``$PALYRA_STATE_ROOT``, else the platform's data directory of the user."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser().absolute() if named else user_data_path("palyra", False)
