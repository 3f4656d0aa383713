"""``palyra capability new``: a complete pip project for a plugin, which passes its own tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs
import click
import msgspec

from palyra import __version__
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.errors import ProjectNotWritten

PREFIX = "palyra-cap-"
VERB = "say_hello"
MAX_NAME = 50
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\Z", re.ASCII | re.IGNORECASE)
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "init.py": "src/{package}/__init__.py",
    "plugin.py": "src/{package}/plugin.py",
    "conftest.py": "tests/conftest.py",
    "test_plugin.py": "tests/test_plugin.py",
}
"""Templates, and where in the project each of them goes."""


@attrs.frozen(kw_only=True)
class Project:
    """What is chosen by its author; the rest is the same in every project."""

    distribution: str
    package: str
    point: str
    capability: str

    @classmethod
    def named(cls, name: str, capability: str | None) -> Project:
        """A project for a name as ``printer``, or ``palyra-cap-printer``.

        :raises click.BadParameter: nothing can be called so.
        """
        if _NAME.match(name) is None or len(name) > MAX_NAME:
            raise click.BadParameter(
                f"{name[:64]!r} cannot be the name of a package: at most {MAX_NAME} letters and "
                "digits, with '-', '_' and '.' between them",
                param_hint="NAME",
            )
        plain = re.sub(r"[-_.]+", "-", name).lower().removeprefix(PREFIX)
        word = plain.replace("-", "_")
        return cls(
            distribution=PREFIX + plain,
            package=PREFIX.replace("-", "_") + word,
            point=plain,
            capability=_checked(capability or f"{word}.{VERB}", given=capability is not None),
        )

    def files(self) -> dict[str, str]:
        """The text of each file, by its path in the project."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        from palyra.capability.descriptor import API

        environment = Environment(
            loader=PackageLoader("palyra.cli", "templates/capability"),
            undefined=StrictUndefined,
            variable_start_string="<<",
            variable_end_string=">>",
            keep_trailing_newline=True,
            autoescape=False,
        )
        said = attrs.asdict(self) | {"api": API, "requirement": requirement(__version__)}
        written = {
            path.format(package=self.package): environment.get_template(f"{each}.j2").render(said)
            for each, path in _FILES.items()
        }
        return written | {f"src/{self.package}/py.typed": ""}


class Written(msgspec.Struct, frozen=True):
    """What ``capability new --json`` prints; ``files`` are below ``directory``."""

    directory: str
    distribution: str
    package: str
    capability: str
    files: tuple[str, ...]


@click.command("new", cls=Verb)
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    default=Path("."),
    help="Where the project's directory is made (default: here).",
)
@click.option("--capability", metavar="VENDOR.VERB_NOUN", help="What its capability is called.")
@pass_call
def new(call: Call, name: str, parent: Path, capability: str | None) -> None:
    """Write a pip project for a plugin: code, tests, README and CI.

    It is called palyra-cap-NAME, and so is its directory.
    """
    project = Project.named(name, capability)
    directory = parent / project.distribution
    files = project.files()
    write(directory, files)
    _tell(call.screen, directory, project, sorted(files))


def write(directory: Path, files: dict[str, str]) -> None:
    """Write a project into a directory that does not exist, or is empty.

    :raises ProjectNotWritten: something is there, or the system refuses.
    """
    try:
        _check_free(directory)
        for path, text in files.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        cause = error.strerror or str(error)
        raise ProjectNotWritten(str(directory), cause[:1].lower() + cause[1:]) from error


def _check_free(directory: Path) -> None:
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ProjectNotWritten(str(directory), "it is no directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise ProjectNotWritten(str(directory), "it is not empty")


def requirement(version: str) -> str:
    """Which versions have the plugin API of this one: from it on, below the next major."""
    found = re.match(r"(\d+)\.(\d+)", version)
    assert found is not None
    first = version if re.search(r"[a-z]", version) else f"{found[1]}.{found[2]}"
    return f">={first},<{int(found[1]) + 1}"


def _checked(capability: str, *, given: bool) -> str:
    from palyra.capability.descriptor import is_name, is_reserved

    hint = "--capability" if given else "NAME"
    other = "" if given else "; choose another with --capability vendor.verb_noun"
    if not is_name(capability):
        raise click.BadParameter(
            f"{capability[:80]!r} cannot be the name of a capability: it is lower-case words "
            f"joined by dots, as vendor.verb_noun{other}",
            param_hint=hint,
        )
    if is_reserved(capability):
        raise click.BadParameter(
            f"{capability} is reserved: echo, system.* and desktop.* come with palyra{other}",
            param_hint=hint,
        )
    return capability


def _tell(screen: Screen, directory: Path, project: Project, files: list[str]) -> None:
    if screen.as_json:
        said = attrs.asdict(project)
        del said["point"]
        document = Written(directory=str(directory), files=tuple(files), **said)
        return screen.json(msgspec.json.encode(document))
    if screen.tty:
        screen.parts(("ok", "green"), (f"  written  {directory}, {len(files)} files", ""))
        screen.parts(("ok", "green"), (f"  offers   {project.capability}", ""))
    else:
        screen.pair("directory", str(directory))
        screen.pair("capability", project.capability)
    where = shlex.quote(str(directory))
    screen.hint(f"cd {where} && python -m pip install -e '.[test]' && pytest")
    return None
