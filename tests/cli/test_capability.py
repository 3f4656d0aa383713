"""Tests of :mod:`palyra.cli.capability` and :mod:`palyra.cli.pluginlines`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra.capability.catalogue import Catalogue, Fault, Offer
from palyra.capability.settings import Secret
from palyra.cli import main, pluginlines
from palyra.cli.pluginlines import Plugins
from palyra.cli.present import Screen
from palyra.config.node import NodeSection
from palyra.plugins.discovery import SWITCHED_OFF, Wishes
from tests.plugins.test_described import descriptor

MISSING = "No module named 'cups'"


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    root: str
    mode: str | None = None
    depth: int = 3
    token: Secret | None = None


def offer(name: str, **changes: Any) -> Offer:
    return Offer(descriptor(name, **changes))


URL = offer("desktop.open_url", version="0.1.0", distribution="palyra", needs_mediation=True)
FETCH = offer(
    "files.fetch",
    version="1.0.2",
    distribution="palyra-cap-files",
    timeout_ms=60_000,
    idempotent=True,
    settings_schema=msgspec.json.schema(Settings),
    output_schema={"type": "string"},
)
OFF = Fault("files.fetch", "palyra-cap-files", "1.0.2", SWITCHED_OFF, True, FETCH)
PRINTER = Fault("printer.print", "palyra-cap-printer", "1.2", MISSING)
WISHES = Wishes(
    in_process=("desktop.*",), settings={"files.fetch": {"root": "/srv", "token": {"file": "/x"}}}
)


def plugins(*offers: Offer, faults: tuple[Fault, ...] = ()) -> Plugins:
    return Plugins(Catalogue(offers, faults), WISHES, lambda said: said.needs_mediation)


def screen(width: int = 80, **changes: Any) -> Screen:
    facts: dict[str, Any] = {"tty": True, "colour": False, "width": width}
    return Screen(out=io.StringIO(), err=io.StringIO(), **facts | changes)


def shown(on: Screen) -> str:
    assert isinstance(on.out, io.StringIO) and isinstance(on.err, io.StringIO)
    lines = (on.out.getvalue() + on.err.getvalue()).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def listed(width: int, *offers: Offer, faults: tuple[Fault, ...] = (), **changes: Any) -> str:
    on = screen(width, **changes)
    pluginlines.show_all(on, plugins(*offers, faults=faults).entries())
    return shown(on)


def test_the_table_at_80() -> None:
    """As the page of tables has it."""
    assert listed(80, URL, faults=(PRINTER,)) == (
        "NAME              VERSION  RISK    STATE\n"
        "desktop.open_url  0.1.0    medium  asks on device\n"
        "printer.print     -        -       !! failed: No module named 'cups'\n"
        "hint  palyra capability show printer.print"
    )


def test_the_table_at_120() -> None:
    """With where it comes from; what the owner switched off is described all the same."""
    assert listed(120, faults=(OFF,)) == (
        "NAME         VERSION  RISK    STATE     FROM              TIMEOUT  IDEMPOTENT\n"
        "files.fetch  1.0.2    medium  disabled  palyra-cap-files      60s  yes"
    )


def test_long_names_and_sentences_are_cut() -> None:
    """On a terminal; a script gets them whole."""
    long = Fault("x" * 64, "y" * 80, "1", "z" * 200)
    for width in (80, 120):
        assert max(map(len, listed(width, URL, faults=(long,)).splitlines()[:-1])) <= width
    assert listed(80, faults=(long,), tty=False) == "\t".join(
        ("x" * 64, "-", "-", "failed: " + "z" * 200, "y" * 80, "-", "-")
    )


def test_the_table_for_scripts() -> None:
    """Every column, no marks, milliseconds."""
    assert listed(80, URL, FETCH, tty=False) == (
        "desktop.open_url\t0.1.0\tmedium\tasks on device\tpalyra\t30000\tno\n"
        "files.fetch\t1.0.2\tmedium\tok\tpalyra-cap-files\t60000\tyes"
    )


def test_the_list_as_json() -> None:
    """Facts without the schemas."""
    document = json.loads(listed(80, URL, faults=(OFF, PRINTER), tty=False, as_json=True))
    url, fetch, printer = document["capabilities"]
    assert (url["name"], url["state"], url["asks"], url["here"]) == (
        "desktop.open_url",
        "asks on device",
        True,
        True,
    )
    assert (fetch["state"], fetch["fault"], fetch["here"]) == ("disabled", "", False)
    assert (printer["state"], printer["fault"], printer["risk"]) == ("failed", MISSING, "")
    assert "input_schema" not in url


def told(plugins: Plugins, name: str, **changes: Any) -> str:
    on = screen(**changes)
    pluginlines.show(on, plugins.named(name))
    return shown(on)


def test_one_capability() -> None:
    """Everything that is known; settings by name and type, never by value."""
    text = told(plugins(FETCH), "files.fetch")
    assert text.startswith(
        "files.fetch  1.0.2\n"
        "state        ok\n"
        "description  Made for a test.\n"
        "from         palyra-cap-files\n"
        "risk         medium\n"
        "mediation    not needed\n"
        "idempotent   yes\n"
        "timeout      60s\n"
        "at once      4\n"
        "runs in      a process of its own\n"
        "settings     root: string, required, set\n"
        "             mode: string or null, optional, not set\n"
        "             depth: integer, optional, not set\n"
        "             token: secret, { file = ... }, optional, set\n"
        "input\n"
        "{}\n"
        "output\n"
        "{\n"
        '  "type": "string"\n'
        "}"
    )
    assert "/srv" not in text and "/x" not in text


def test_one_capability_for_scripts() -> None:
    """A key and a value a line; and as JSON with its schemas."""
    lines = told(plugins(FETCH), "files.fetch", tty=False).splitlines()
    facts = dict(line.split("\t", 1) for line in lines)
    assert facts["output"] == '{"type":"string"}'
    assert facts["timeout"] == "60000"
    document = json.loads(told(plugins(FETCH), "files.fetch", tty=False, as_json=True))
    assert document["output_schema"] == {"type": "string"}
    assert document["settings"][3] == {
        "name": "token",
        "type": "string or null",
        "required": False,
        "secret": True,
        "configured": True,
    }


def test_a_plugin_that_failed() -> None:
    """What is known of it, and what to do."""
    assert told(plugins(faults=(PRINTER,)), "printer.print") == (
        "printer.print\n"
        "state  !! failed: No module named 'cups'\n"
        "from   palyra-cap-printer 1.2\n"
        "hint  mend or uninstall palyra-cap-printer, then: palyra node reload"
    )


def test_two_that_fight_about_a_name() -> None:
    """Both are shown, each naming the other."""
    both = plugins(offer("a.b", distribution="one"), offer("a.b", distribution="two"))
    text = told(both, "a.b")
    assert "two offers the same name" in text and "one offers the same name" in text
    document = json.loads(told(both, "a.b", tty=False, as_json=True))
    assert len(document["capabilities"]) == 2


def test_text_of_plugins_steers_no_terminal() -> None:
    """What could is spelled out."""
    evil = Fault("a\x1b[2Jb", "x", "1\u202e", "s\x07")
    text = listed(120, faults=(evil,)) + told(plugins(faults=(evil,)), "a\x1b[2Jb")
    said = {"type": "string", "description": "a\u202eb\x9b31m\x1b[31m"}
    text += told(plugins(offer("a.b", input_schema=said, output_schema=said)), "a.b")
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> list[NodeSection]:
    """What is installed is what the test says; keeps which configuration was used."""
    used: list[NodeSection] = []

    def find_once(section: NodeSection, directory: Path) -> Catalogue:
        used.append(section)
        return Catalogue([URL, FETCH], [PRINTER])

    monkeypatch.setattr("palyra.node.finding.find_once", find_once)
    return used


def run(capsys: pytest.CaptureFixture[str], root: Path, *args: str) -> tuple[int, str, str]:
    status = main(["capability", *args, "--state-root", str(root)])
    return status, *capsys.readouterr()


def test_the_configuration_is_the_state_roots(
    installation: list[NodeSection], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rules too; a name that nothing has is told, and no node needs to run."""
    (tmp_path / "palyra.toml").write_text('[node.capability."files.fech"]\nenabled = false\n')
    (tmp_path / "node-host").mkdir(mode=0o700)
    policy = tmp_path / "node-host" / "node-policy.toml"
    policy.write_text('[[rule]]\nid = "r"\neffect = "ask"\ncapability = ["files.*"]\n')
    policy.chmod(0o600)
    status, out, err = run(capsys, tmp_path, "list")
    assert status == 0
    assert "files.fetch\t1.0.2\tmedium\tasks on device" in out
    assert err == "warn  palyra.toml configures files.fech, which no plugin here has\n"
    assert not installation[0].capability["files.fech"].enabled


def test_a_name_that_nothing_has(
    installation: list[NodeSection], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and the names that are near."""
    status, out, err = run(capsys, tmp_path / "none", "show", "files.fech")
    assert (status, out) == (1, "")
    assert err == (
        "error: No plugin of this installation has a capability files.fech. "
        "Did you mean files.fetch?\n"
        "hint:  palyra capability list\n"
    )
    status, _, err = run(capsys, tmp_path / "none", "show", "zzz", "--json")
    assert (status, json.loads(err)["code"]) == (1, "capability_unknown")


def test_a_configuration_that_is_wrong(
    installation: list[NodeSection], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is named, and nothing is asked of plugins."""
    (tmp_path / "palyra.toml").write_text("[node]\ndisabled = 5\n")
    status, _, err = run(capsys, tmp_path, "list")
    assert status == 1
    assert "node.disabled" in err
    assert installation == []


def test_this_installation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes with it works without any state root."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status, out, _ = run(capsys, tmp_path / "none", "show", "echo", "--json")
    assert status == 0
    document = json.loads(out)
    assert (document["distribution"], document["state"], document["risk"]) == (
        "palyra",
        "ok",
        "low",
    )
    assert not (tmp_path / "none").exists()
