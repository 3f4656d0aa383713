"""What other threads find of the identity while it changes: each handshake asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.rotation import Authorities

from .conftest import NOW_MS
from .test_rotation import NAMES, STEPS, opened, prepared, roots_in

RENEW_MS = NOW_MS + 360 * DAY_MS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def belong_together(identity: GatewayIdentity) -> list[x509.Certificate]:
    """Key, certificate and CA that are served fit, and that CA is trusted; all trusted roots."""
    key_pem, chain_pem = identity.served
    leaf, last = roots_in(chain_pem)
    assert load_pem_private_key(key_pem, None).public_key() == leaf.public_key()
    leaf.verify_directly_issued_by(last)
    trusted = roots_in(identity.ca_bundle_pem)
    assert last in trusted
    assert trusted == list(identity.roots)
    assert len(trusted) == len(identity.ca_hashes)
    return trusted


@pytest.fixture
def at_each_change(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Has something looked at whenever an attribute was set: no thread sees another state."""

    def have(look: Callable[[], Any]) -> None:
        def set_and_look(self: object, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            look()

        for kind in (GatewayIdentity, Authorities):
            monkeypatch.setattr(kind, "__setattr__", set_and_look, raising=False)

    return have


@pytest.mark.parametrize("step", NAMES)
def test_a_rotation_has_no_half_steps(
    path: Path, step: str, at_each_change: Callable[[Callable[[], Any]], None]
) -> None:
    """What is served fits at every moment of every step, and no root is missing in between."""
    identity = prepared(path, step)
    seen = [belong_together(identity)]
    at_each_change(lambda: seen.append(belong_together(identity)))
    STEPS[step](identity)
    assert len(seen) > 1
    always = set(seen[0]) & set(seen[-1])
    assert all(always <= set(trusted) for trusted in seen)
    assert always


def test_a_renewed_certificate_comes_with_its_key(
    path: Path, at_each_change: Callable[[Callable[[], Any]], None]
) -> None:
    """Nobody is shown the new chain with the old key, or the old one with the new."""
    identity = opened(path)
    seen = [identity.served]

    def look() -> None:
        belong_together(identity)
        seen.append(identity.served)

    at_each_change(look)
    assert identity.refresh(RENEW_MS)
    assert len(seen) > 1 and seen[0][0] != seen[-1][0]
    assert len(set(seen)) == 2
    assert identity.served == (identity.gateway_key_pem, identity.gateway_chain_pem)


@pytest.mark.parametrize("what", ["roots", "ca_bundle_pem", "ca_hashes"])
def test_a_reader_that_a_step_overtakes(
    path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what was trusted before or what is trusted after, never a part of each."""
    identity = prepared(path, "finish")
    before = getattr(identity, what)
    asked = {"roots": "ca_certificate", "ca_bundle_pem": "ca_pem", "ca_hashes": "ca_hash"}[what]
    overtaken: list[bool] = []

    def overtake(authority: Authority) -> Any:
        if not overtaken:
            overtaken.append(True)
            assert identity.finish(NOW_MS + DAY_MS)
        return vars(authority)[asked]

    monkeypatch.setattr(Authority, asked, property(overtake), raising=False)
    assert getattr(identity, what) == before
    assert overtaken and getattr(identity, what) != before
