"""Operators as tests have them ask."""

from __future__ import annotations

from palyra.core.operators import Caller, Role


def admin(name: str, uid: int = 1000) -> Caller:
    """An account of this machine, which may do everything."""
    return Caller(f"local:{uid}", name, Role.ADMIN, "console.sock")


ANA, BO = admin("ana"), admin("bo", 1001)
