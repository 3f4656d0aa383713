"""Tests of :mod:`palyra.plugins.installed`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from palyra.capability.catalogue import Fault
from palyra.capability.registry import own_points
from palyra.plugins.installed import Installed, installed
from tests.capability.distributions import make_capability, make_distribution


def found(path: Path) -> tuple[list[Installed], list[Fault]]:
    return installed([str(path)])


def metadata(path: Path, name: str) -> Path:
    (folder,) = path.glob(f"{name.replace('-', '_')}-*.dist-info")
    return folder


def test_distributions_are_found_by_their_metadata(tmp_path: Path) -> None:
    """Name, version and points of each; nothing of it is imported."""
    make_capability(tmp_path, "acme.print_page", "return 1", head="raise SystemExit")
    make_capability(tmp_path, "acme.scan", "return 1", version="2.1")
    (one, two), faults = found(tmp_path)
    assert (one.name, one.version, one.key) == ("acme-print-page", "1.0", "acme-print-page")
    assert [each.name for each in one.points] == ["acme.print_page"]
    assert (two.name, two.version) == ("acme-scan", "2.1")
    assert faults == []
    assert "acme_print_page" not in sys.modules


def test_ours_are_found_where_they_are_installed() -> None:
    """The distribution palyra is one like all others."""
    present, _ = installed()
    (own,) = [each for each in present if each.key == "palyra"]
    assert {each.name for each in own.points} >= {"echo", "system", "desktop"}


def test_others_distributions_are_none_of_ours(tmp_path: Path) -> None:
    """A distribution without such an entry point is passed over, and so is one of another group."""
    make_distribution(tmp_path, "other", "1", {"other": ""}, {})
    assert found(tmp_path) == ([], [])
    (metadata(tmp_path, "other") / "entry_points.txt").write_text("[console_scripts]\nx = y:z\n")
    assert found(tmp_path) == ([], [])
    (metadata(tmp_path, "other") / "entry_points.txt").write_bytes(b"\xff\xfe")
    assert found(tmp_path) == ([], [])


def test_metadata_that_cannot_be_read_is_that_distributions_fault(tmp_path: Path) -> None:
    """It hides no other one."""
    make_capability(tmp_path, "acme.scan", "return 1")
    make_capability(tmp_path, "acme.fax", "return 1")
    (metadata(tmp_path, "acme-fax") / "entry_points.txt").write_text(
        "[palyra.capabilities]\nno equals sign\n"
    )
    (one,), (fault,) = found(tmp_path)
    assert one.name == "acme-scan"
    assert (fault.name, fault.distribution) == ("acme-fax", "acme-fax")
    assert fault.sentence == "Its metadata cannot be read; install it again."


def test_ours_are_found_beside_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway in the same environment starts all the same."""
    make_capability(tmp_path, "acme.fax", "return 1")
    (metadata(tmp_path, "acme-fax") / "entry_points.txt").write_text("[palyra.capabilities]\nx\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert {each.name for each in own_points()} >= {"echo", "system"}
    assert [each.name for each in installed()[1]] == ["acme-fax"]


def test_a_name_that_is_none_is_a_fault(tmp_path: Path) -> None:
    """It would be an argument of the worker, and be shown to people."""
    for number, name in enumerate(("-rf", "a b", "x" * 129, "\u202eevil", "")):
        path = tmp_path / str(number)
        make_capability(path, "acme.scan", "return 1")
        (metadata(path, "acme-scan") / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
        )
        present, (fault,) = found(path)
        assert present == []
        assert len(fault.name) <= 64
        assert "\u202e" not in fault.name + fault.distribution


def test_the_first_on_the_path_is_the_one(tmp_path: Path) -> None:
    """As it is for what would be imported."""
    for folder, version in (("a", "1"), ("b", "2")):
        make_capability(tmp_path / folder, "acme.scan", "return 1", version=version)
    (one,), _ = installed([str(tmp_path / "a"), str(tmp_path / "b")])
    assert one.version == "1"


def test_the_list_of_files_tells_whether_it_changed(tmp_path: Path) -> None:
    """Its digest is another one for another file, and none for an editable install."""
    make_capability(tmp_path, "acme.scan", "return 1")
    (one,), _ = found(tmp_path)
    make_capability(tmp_path, "acme.scan", "return 2")
    (two,), _ = found(tmp_path)
    assert len(one.record) == 64
    assert one.record != two.record
    origin = metadata(tmp_path, "acme-scan") / "direct_url.json"
    for document, stable in (({"dir_info": {"editable": True}}, False), ({"url": "x"}, True)):
        origin.write_text(json.dumps(document))
        (three,), _ = found(tmp_path)
        assert bool(three.record) is stable
    for text in ("[" * 100_000, '"text"', '{"dir_info": 1}'):
        origin.write_text(text)
        (four,), _ = found(tmp_path)
        assert four.record == ""


def test_without_a_list_of_files_nothing_is_stable(tmp_path: Path) -> None:
    """Such an install has no digest."""
    make_capability(tmp_path, "acme.scan", "return 1")
    (metadata(tmp_path, "acme-scan") / "RECORD").unlink()
    (one,), _ = found(tmp_path)
    assert one.record == ""
