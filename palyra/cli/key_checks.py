"""Whether a gateway could open its sealed keys, for ``palyra doctor`` while none runs."""

from __future__ import annotations

import os
from pathlib import Path

from palyra.config import Config
from palyra.console.models import Check
from palyra.errors import PalyraError
from palyra.pki.sealing import Sealer
from palyra.pki.storekey import SEALED_PATH, SEALED_PURPOSE, load_store_key

NAME = "store key"
_STORE_KEY = "store.key"


def sealed(root: Path, config: Config) -> list[Check]:
    """A FAIL with the cause where they cannot be opened; nothing where they can, or none are there.

    A key that systemd hands to the gateway cannot be seen here: that is told, and not judged.
    """
    folder = root / SEALED_PATH
    files = sorted(folder.glob("*.sealed"))
    if not files:
        return []
    named = config.gateway.store_key_file
    if not named and not (folder / _STORE_KEY).exists():
        finding = f"{SEALED_PATH}/{_STORE_KEY} is not here; the gateway needs it from systemd"
        hint = "without such a credential: put store.key of a backup in its place"
        return [Check("warn", NAME, finding, str(folder / _STORE_KEY), hint)]
    try:
        key = load_store_key(folder, store_key_file=Path(named) if named else None)
        sealer = Sealer(key, entropy=os.urandom)
        for file in files:
            sealer.open(
                file.read_bytes(), path=SEALED_PATH, entry=file.name, purpose=SEALED_PURPOSE
            )
    except PalyraError as error:
        return [Check("FAIL", NAME, error.sentence.rstrip("."), str(folder), error.hint)]
    except OSError:  # the check of the key files says so
        return []
    return []
