"""Tests of :mod:`palyra.cli.capability_new`: what it writes works at once."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from palyra import __version__
from palyra.capability.descriptor import is_name, is_reserved
from palyra.cli import main
from palyra.cli.capability_new import Project, _tell, requirement
from palyra.cli.present import Screen
from tests.integration.processes import environment
from tests.test_docs import commands, fault

LONGEST = "x" * 50


def new(
    capsys: pytest.CaptureFixture[str], directory: Path, *arguments: str
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``palyra capability new``."""
    status = main(["capability", "new", *arguments, "--dir", str(directory)])
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as it is written."""
    directory = tmp_path_factory.mktemp("new")
    assert main(["capability", "new", "printer", "--dir", str(directory)]) == 0
    return directory / "palyra-cap-printer"


def test_it_is_in_good_style(project: Path) -> None:
    """ruff finds nothing, with the rules that it has by itself."""
    pytest.importorskip("ruff")
    for verb in ("check", "format --check"):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *verb.split(), "--isolated", "--no-cache", "."],
            cwd=project, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_its_metadata(project: Path) -> None:
    """It needs a palyra with this plugin API, and this one is such."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == "palyra-cap-printer"
    assert metadata["entry-points"]["palyra.capabilities"] == {
        "printer": "palyra_cap_printer.plugin"
    }
    needed = {each.name: each for each in map(Requirement, metadata["dependencies"])}
    assert needed["palyra"].specifier.contains(__version__)
    assert "test" in metadata["optional-dependencies"]


def test_its_readme_names_commands_that_exist(project: Path) -> None:
    """Whoever follows it types no command that there is not."""
    typed = list(commands(project / "README.md"))
    assert len(typed) >= 5 and not [problem for each in typed if (problem := fault(each))]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.1.0", ">=0.1,<1"), ("2.3.4", ">=2.3,<3"), ("1.0.0rc1", ">=1.0.0rc1,<2")],
)
def test_the_versions_it_asks_for(version: str, expected: str) -> None:
    """From this one on, below the next major one."""
    assert requirement(version) == expected


@pytest.mark.parametrize(
    ("name", "distribution", "package", "capability"),
    [
        ("printer", "palyra-cap-printer", "palyra_cap_printer", "printer.say_hello"),
        ("Palyra_Cap.Label--Printer", "palyra-cap-label-printer", "palyra_cap_label_printer",
         "label_printer.say_hello"),
        (LONGEST, f"palyra-cap-{LONGEST}", f"palyra_cap_{LONGEST}", f"{LONGEST}.say_hello"),
    ],
)  # fmt: skip
def test_names(name: str, distribution: str, package: str, capability: str) -> None:
    """What is typed becomes the names of a distribution, a package and a capability."""
    made = Project.named(name, None)
    assert (made.distribution, made.package, made.capability) == (
        distribution, package, capability
    )  # fmt: skip
    for path, text in made.files().items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@given(st.from_regex(r"[A-Za-z0-9_. -]{1,60}", fullmatch=True), st.none() | st.text(max_size=70))
@settings(max_examples=60)
def test_any_name_is_refused_or_good(name: str, capability: str | None) -> None:
    """What is not refused is a distribution, a package and a capability that can be used."""
    try:
        made = Project.named(name, capability)
    except click.BadParameter:
        return
    assert str(Requirement(made.distribution).name) == made.distribution
    assert made.package.isidentifier() and made.package == made.package.lower()
    assert is_name(made.capability) and not is_reserved(made.capability)
    metadata = tomllib.loads(made.files()["pyproject.toml"])
    assert metadata["project"]["name"] == made.distribution


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "'a b' cannot be the name of a package"),
        (["../up"], "cannot be the name of a package"),
        (["-x-"], "No such option"),
        (["x" * 51], "at most 50"),
        (["system"], "system.say_hello is reserved"),
        (["3d"], "'3d.say_hello' cannot be the name of a capability"),
        (["printer", "--capability", "desktop.print"], "desktop.print is reserved"),
        (["printer", "--capability", "Print"], "'Print' cannot be the name of a capability"),
    ],
)
def test_names_that_nothing_can_have(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    """They are refused with a sentence, and nothing is written."""
    status, out, err = new(capsys, tmp_path, *arguments)
    assert (status, out) == (2, "") and said in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A directory that holds anything is left alone; an empty one is used."""
    directory = tmp_path / "palyra-cap-printer"
    directory.mkdir()
    assert new(capsys, tmp_path, "printer")[0] == 0
    (directory / "README.md").write_text("mine")
    status, _, err = new(capsys, tmp_path, "printer")
    assert status == 1 and "it is not empty" in err
    assert (directory / "README.md").read_text() == "mine"
    shutil.rmtree(directory)
    directory.write_text("a file")
    assert "it is no directory" in new(capsys, tmp_path, "printer")[2]


@pytest.mark.skipif(os.name != "posix", reason="needs a directory that nothing can be made in")
def test_a_disk_that_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """The system's reason is in the sentence."""
    status, _, err = new(capsys, Path("/proc"), "printer")
    assert status == 1 and "palyra-cap-printer was not written: no such file" in err


def test_what_it_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A script gets where and what; a hint names what comes next."""
    status, out, err = new(capsys, tmp_path, "printer", "--capability", "acme.print_page")
    directory = tmp_path / "palyra-cap-printer"
    assert (status, out) == (0, f"directory\t{directory}\ncapability\tacme.print_page\n")
    assert err.startswith(f"hint  cd {directory} && ")
    status, out, err = new(capsys, tmp_path, "scanner", "--json")
    said = json.loads(out)
    assert err == "" and said["distribution"] == "palyra-cap-scanner"
    found = {
        str(each.relative_to(tmp_path / "palyra-cap-scanner"))
        for each in (tmp_path / "palyra-cap-scanner").rglob("*")
        if each.is_file()
    }
    assert set(said["files"]) == found


def test_what_a_person_sees() -> None:
    """What was done, a line each, and the command that comes next."""
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out=out, err=err, tty=True, err_tty=True)
    _tell(screen, Path("here/palyra-cap-printer"), Project.named("printer", None), ["a", "b"])
    assert out.getvalue().splitlines() == [
        "ok  written  here/palyra-cap-printer, 2 files",
        "ok  offers   printer.say_hello",
    ]
    assert err.getvalue() == (
        "hint  cd here/palyra-cap-printer && python -m pip install -e '.[test]' && pytest\n"
    )
