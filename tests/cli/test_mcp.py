"""Tests of ``palyra mcp`` before it serves: which gateway, and what must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.afar.contexts import Context, Contexts
from palyra.cli import main, mcp

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extra is there, and this account knows no gateway."""
    monkeypatch.setattr(mcp, "find_spec", lambda _: object())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PALYRA_GATEWAY_URL", raising=False)


def test_without_the_extra(capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setattr(mcp, "find_spec", lambda _: None)
    assert main(["mcp"]) == 1
    assert capsys.readouterr().err == (
        "error: The Model Context Protocol needs a package that is not installed.\n"
        "hint:  pip install 'palyra[mcp]'\n"
    )


def test_the_gateway_of_this_machine_is_never_meant(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over its socket everybody is an admin: a context has to be there, whatever runs here."""
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(tmp_path))
    (tmp_path / "console.sock").touch()
    assert main(["mcp"]) == 1
    assert "palyra operators invite agent-claude --role operator" in capsys.readouterr().err
    assert main(["mcp", "--context", "nowhere"]) == 1
    assert "No context is called nowhere." in capsys.readouterr().err
    assert main(["mcp", "--state-root", str(tmp_path)]) == 2


def test_which_one_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, else that of the environment, else the one in use."""
    contexts = Contexts.of_user()
    for name in ("a", "b", "c"):
        contexts.add(Context(name, f"https://{name}:7142"), b"", b"")
    contexts.use("c")
    assert mcp._meant(contexts, "a", "https://b").name == "a"
    assert mcp._meant(contexts, "", "https://b").name == "b"
    assert mcp._meant(contexts, "", "").name == "c"
    monkeypatch.setenv("PALYRA_GATEWAY_URL", "https://b:7142")
    assert mcp._meant(contexts, "", "").name == "b"


@pytest.mark.parametrize("given", ["x", "127.0.0.1:", "127.0.0.1:70000", "1:2:x", "-1"])
def test_where_it_serves(given: str, capsys: Capsys) -> None:
    """[HOST:]PORT, and nothing else."""
    assert main(["mcp", f"--http={given}"]) == 2
    assert "is not [HOST:]PORT" in capsys.readouterr().err


def test_addresses() -> None:
    """A port alone is of loopback."""
    assert str(mcp._address("7150")) == "127.0.0.1:7150"
    assert str(mcp._address("[::1]:0")) == "[::1]:0"


def test_the_token_goes_with_its_context(tmp_path: Path) -> None:
    """Whoever forgets a gateway forgets that too."""
    contexts = Contexts.of_user()
    contexts.add(Context("a", "https://a:7142"), b"", b"")
    (contexts.directory("a") / "mcp-token").touch()
    contexts.remove("a")
    assert not contexts.directory("a").exists()
