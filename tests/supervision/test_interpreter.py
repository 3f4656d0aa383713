"""Proving that the user of a service can run this installation."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.errors import InterpreterUnusable
from palyra.supervision.acting import acting_as
from palyra.supervision.interpreter import places, prove
from palyra.supervision.service import Account

NOBODY = Account("nobody", 65534, 65534)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that only its owner may enter, in one that everybody may."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name).resolve() / "closed"
        directory.mkdir(mode=0o700)
        yield directory


def test_this_installation_works_for_its_user() -> None:
    """The node host can be imported, without anything of our own environment."""
    prove(sys.executable, None)


def test_an_interpreter_without_palyra_is_refused_with_its_own_words(tmp_path: Path) -> None:
    """What it could not import, or what it is."""
    broken = tmp_path / "python"
    broken.write_text(
        "#!/bin/sh\necho Traceback >&2\necho \"No module named 'palyra'\" >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    with pytest.raises(InterpreterUnusable) as caught:
        prove(str(broken), None)
    assert caught.value.problem == "No module named 'palyra'"
    broken.write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(InterpreterUnusable, match="it ended with 7"):
        prove(str(broken), None)
    with pytest.raises(InterpreterUnusable, match="No such file"):
        prove(str(tmp_path / "none"), None)


def test_it_has_the_environment_of_the_service_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What works only by PYTHONPATH of this terminal does not work as a service."""
    monkeypatch.setenv("PYTHONPATH", "/here")
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "$PYTHONPATH $ONE $1 $2" >&2\nexit 1\n')
    script.chmod(0o755)
    with pytest.raises(InterpreterUnusable) as caught:
        prove(str(script), None, environment={"ONE": "1"})
    assert caught.value.problem == "1 -P -c"


@as_root
def test_the_directory_that_is_closed_to_the_user_is_named(closed: Path) -> None:
    """Also where only a link leads into it."""
    python = closed / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    link = closed.parent / "python"
    link.symlink_to("closed/python")
    for each in (python, link):
        with pytest.raises(InterpreterUnusable) as caught:
            prove(str(each), NOBODY)
        assert caught.value.problem == f"{closed} is closed to it"
        assert "User nobody cannot run" in str(caught.value)


@as_root
def test_an_interpreter_that_the_user_can_run_is_taken(closed: Path) -> None:
    """A directory that is its own, or its group's, is not closed to it."""
    python = closed / "python"
    python.write_text("#!/bin/sh\n[ $(id -u) = 65534 ]\n")
    python.chmod(0o755)
    os.chown(closed, NOBODY.uid, 0)
    prove(str(python), NOBODY)
    os.chown(closed, 0, NOBODY.gid)
    closed.chmod(0o750)
    prove(str(python), NOBODY)


@as_root
def test_an_interpreter_of_another_group_that_the_user_is_in(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service will have all of them, so what is shut to none of them is taken."""
    python = closed / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    os.chown(closed, 0, 54321)
    closed.chmod(0o750)
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 54321])
    prove(str(python), NOBODY)
    with acting_as(NOBODY):
        assert python.exists()


def test_what_an_interpreter_needs_is_named() -> None:
    """Its program, where its link leads, and of our own where its modules are."""
    import palyra

    found = places(sys.executable)
    assert found[0] == Path(sys.executable)
    assert Path(os.path.realpath(sys.executable)) in found
    assert Path(os.path.realpath(palyra.__file__)).parent in found
    assert places("/opt/other/python") == (Path("/opt/other/python"),)
