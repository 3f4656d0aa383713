"""Tests of what is shipped: the wheel, the sdist and the requirements."""

from __future__ import annotations

import configparser
import email
import email.message
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BUILD = """
import json, setuptools.build_meta as backend
print(json.dumps([backend.build_wheel("out"), backend.build_sdist("out")]))
"""
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".tox", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("packaging") / "source"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCES)
    (source / "out").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True, text=True
    )
    wheel, sdist = json.loads(run.stdout.splitlines()[-1])
    return source / "out" / wheel, source / "out" / sdist


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(built[0])


@pytest.fixture(scope="module")
def wheel_names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def listed(setup: configparser.ConfigParser, section: str, option: str) -> list[str]:
    return setup.get(section, option).split("\n")[1:]


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def headers(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_string(metadata(wheel, "METADATA"))


def test_every_package_of_the_tree_is_listed(setup: configparser.ConfigParser) -> None:
    """No room is forgotten in setup.cfg, and none is listed that does not exist."""
    rooms = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "palyra").rglob("__init__.py")
    }
    assert set(listed(setup, "options", "packages")) == rooms | {
        "palyra_capabilities",
        "twisted.plugins",
    }


def test_every_module_is_in_the_wheel(wheel_names: set[str]) -> None:
    """What is in the checkout is in the wheel, the capabilities under their import name."""
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "palyra").rglob("*.py")}
    modules |= {f"palyra_capabilities/{path.name}" for path in (ROOT / "capabilities").glob("*.py")}
    assert modules <= wheel_names


def test_the_templates_are_in_the_wheel(wheel_names: set[str]) -> None:
    """``palyra capability new`` finds what it writes."""
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "palyra").rglob("*.j2")}
    assert templates and templates <= wheel_names


def test_the_wheel_is_typed(wheel_names: set[str]) -> None:
    """Both import packages carry py.typed, and the generated modules their stubs."""
    typed = {"palyra/py.typed", "palyra_capabilities/py.typed", "palyra/wire/v1/node_pb2.pyi"}
    assert typed <= wheel_names


def test_the_twistd_plugin_leaves_twisted_alone(wheel_names: set[str]) -> None:
    """The wheel adds one file to twisted.plugins and overwrites none of Twisted's own."""
    ours = {name for name in wheel_names if name.startswith("twisted/")}
    assert ours == {"twisted/plugins/palyra_plugins.py"}


def test_nothing_else_is_in_the_wheel(wheel_names: set[str]) -> None:
    """Tests, benchmarks and protocol sources are not installed."""
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "palyra",
        "palyra_capabilities",
        "twisted",
    }


def test_the_metadata_says_what_it_must(wheel: zipfile.ZipFile) -> None:
    """Name, license and the Python floor are in the metadata, the license text beside it."""
    said = headers(wheel)
    assert (said["Name"], said["License-Expression"]) == ("palyra", "Apache-2.0")
    assert said["Requires-Python"] == ">=3.11"
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_the_entry_points(wheel: zipfile.ZipFile) -> None:
    """The command and the first-party capabilities are found by their entry points."""
    points = configparser.ConfigParser()
    points.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(points["console_scripts"]) == {"palyra": "palyra.cli:main"}
    assert dict(points["palyra.capabilities"]) == {
        name: f"palyra_capabilities.{name}" for name in ("desktop", "echo", "system")
    }


@pytest.mark.parametrize(
    "path",
    [
        ".ci/run",
        "CHANGELOG.md",
        "LICENSE",
        "capabilities/echo.py",
        "docs/index.md",
        "examples/palyra-cap-files/pyproject.toml",
        "proto/generate.py",
        "proto/palyra/wire/v1/node.proto",
        "pyproject.toml",
        "tests/conftest.py",
        "tox.ini",
        "twisted/plugins/palyra_plugins.py",
    ],
)
def test_the_sdist_can_be_tested(built: tuple[Path, Path], path: str) -> None:
    """The sdist holds what ``tox`` needs, and the protocol sources."""
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert path in names


def test_the_oldest_versions_tested_are_the_floors(setup: configparser.ConfigParser) -> None:
    """``tox -e mindeps`` installs exactly the floor of every requirement in setup.cfg."""
    wanted = {}
    floors = listed(setup, "options", "install_requires")
    for line in [*floors, *listed(setup, "options.extras_require", "postgres")]:
        requirement = Requirement(line)
        (lowest,) = (bound for bound in requirement.specifier if bound.operator == ">=")
        wanted[requirement.name.lower()] = lowest.version
    pins = {}
    for line in (ROOT / ".ci" / "mindeps.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (exact,) = requirement.specifier
            assert exact.operator == "=="
            pins[requirement.name.lower()] = exact.version
    assert pins.keys() == wanted.keys()
    for name, floor in wanted.items():
        assert pins[name].split(".")[: len(floor.split("."))] == floor.split("."), name


def test_the_floors_follow_the_generated_code(setup: configparser.ConfigParser) -> None:
    """Generated code refuses older runtimes: the floors of grpcio and protobuf are what it asks."""
    wire = ROOT / "palyra" / "wire" / "v1"
    floors = listed(setup, "options", "install_requires")
    (grpc,) = (line.split("'")[1] for line in read(wire / "node_pb2_grpc.py", "GRPC_GENERATED_V"))
    (gencode,) = (line.split()[-1] for line in read(wire / "node_pb2.py", "# Protobuf Python V"))
    assert f"grpcio>={grpc}" in floors
    assert f"protobuf>={gencode}" in floors


def read(path: Path, prefix: str) -> list[str]:
    """The lines of a file that begin with ``prefix``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(prefix)]
