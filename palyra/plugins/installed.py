"""What is installed, by its metadata alone: which distributions register plugins.

Nothing of a distribution is imported here, and one whose metadata is broken hides no other.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Sequence

import attrs

from palyra.capability.catalogue import Fault
from palyra.capability.hookspecs import ENTRY_POINT_GROUP
from palyra.capability.registry import normal_name
from palyra.capability.wording import one_line
from palyra.core.descriptors import MAX_NAME, MAX_TEXT

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z", re.ASCII)
_BROKEN = "Its metadata cannot be read; install it again."


@attrs.frozen
class Installed:
    """One distribution that registers plugins.

    ``record`` is SHA-256 (hex) of the list of its files; empty where that list says nothing of
    what will be imported, as in an editable install.
    """

    name: str
    version: str
    points: tuple[importlib.metadata.EntryPoint, ...] = attrs.field(eq=False)
    record: str = ""

    @property
    def key(self) -> str:
        """Its normalized name."""
        return normal_name(self.name)


def installed(path: Sequence[str] | None = None) -> tuple[list[Installed], list[Fault]]:
    """Every distribution that registers plugins, in the order of names; and those that try to.

    ``path`` is searched instead of ``sys.path``.  What was installed a moment ago is seen.
    """
    importlib.invalidate_caches()
    where = list(sys.path if path is None else path)
    found: dict[str, Installed | Fault] = {}
    for distribution in importlib.metadata.distributions(path=where):
        read = _read(distribution)
        if read is not None:  # what stands behind it on the path is not what would be imported
            name = read.name if isinstance(read, Installed) else read.distribution
            found.setdefault(normal_name(name), read)
    ordered = [found[key] for key in sorted(found)]
    return (
        [each for each in ordered if isinstance(each, Installed)],
        [each for each in ordered if isinstance(each, Fault)],
    )


def _read(distribution: importlib.metadata.Distribution) -> Installed | Fault | None:
    """One distribution; None where it registers nothing of ours."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except (OSError, ValueError):
        return None
    if ENTRY_POINT_GROUP not in text:
        return None
    name = _name(distribution)
    try:
        points = tuple(distribution.entry_points.select(group=ENTRY_POINT_GROUP))
        version = one_line(str(distribution.version or ""), MAX_TEXT)
    except Exception:  # a metadata file may hold anything, and importlib parses it as it likes
        return _broken(name)
    if not points:
        return None
    if not (_NAME.match(name) and len(name) <= 2 * MAX_TEXT and version):
        return _broken(name, version)
    return Installed(name, version, points, _record(distribution))


def _broken(name: str, version: str = "") -> Fault:
    shown = one_line(name, MAX_NAME) or "unnamed"
    return Fault(shown, shown, version, _BROKEN)


def _name(distribution: importlib.metadata.Distribution) -> str:
    try:
        return str(distribution.metadata["Name"] or "")
    except Exception:
        return ""


def _record(distribution: importlib.metadata.Distribution) -> str:
    try:
        record = distribution.read_text("RECORD")
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable = bool(origin.get("dir_info", {}).get("editable", False))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    if not record or editable:
        return ""
    return hashlib.sha256(record.encode("utf-8", "surrogateescape")).hexdigest()
