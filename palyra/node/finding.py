"""What the owner's configuration makes of what is installed."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from palyra._files import make_private_dir
from palyra.capability.catalogue import Catalogue
from palyra.capability.frames import Limits
from palyra.config import load
from palyra.config.node import NodeSection, WorkerSection
from palyra.errors import PalyraError, PluginFailed
from palyra.plugins.described import DescriptorCache
from palyra.plugins.discovery import Discovery, Wishes
from palyra.workers.pool import PoolSettings, WorkerPool

CACHE = "descriptors-cache.json"
_MIB = 1024 * 1024
_log = Logger()


def wishes_of(section: NodeSection) -> Wishes:
    """What the device's owner wants of its plugins."""
    named = section.capability.items()
    off = (name for name, each in named if not each.enabled)
    return Wishes(
        in_process=section.in_process,
        disabled=(*section.disabled, *off),
        settings={name: each.settings for name, each in named if each.settings},
    )


def pool_settings(section: WorkerSection) -> PoolSettings:
    """How a plugin's processes are limited."""
    return PoolSettings(
        limits=Limits(
            memory_bytes=section.memory_mib * _MIB,
            open_files=section.open_files,
            file_bytes=section.file_mib * _MIB,
            processes=section.processes,
        ),
        max_workers=section.max_workers,
        idle_s=section.idle_s,
        start_s=section.start_s,
        user=section.user,
    )


def not_installed(section: NodeSection, catalogue: Catalogue) -> list[str]:
    """The names that are configured, and that nothing here has: misspelt, most likely."""
    known = {*catalogue.offers, *(each.name for each in catalogue.faults)}
    return sorted(name for name in section.capability if name not in known)


def find_once(section: NodeSection, directory: Path) -> Catalogue:
    """What is offered here, found out by processes that end with it; blocks.

    What plugins describe is kept in ``directory``, where that can be.  Nothing can be run of what
    others have brought.

    :raises Malformed: plugins cannot be run as the configured user.
    """
    try:
        make_private_dir(directory, marks=(CACHE,))
        cache = DescriptorCache(directory / CACHE)
    except (OSError, PalyraError):
        cache = DescriptorCache()
    pool = WorkerPool(pool_settings(section.worker))
    try:
        pool.open()
        discovery = Discovery(pool.describe, cache, importing=False)
        return discovery.find(wishes_of(section))
    finally:
        pool.close()


class Finding:
    """Finds out again and again what a node host offers, by its configuration as it is then."""

    def __init__(self, file: Path, discovery: Discovery) -> None:
        self._file = file
        self._required = file.exists()
        self._discovery = discovery

    def known(self) -> Catalogue:
        """As :meth:`find`, without what no process has described before; blocks, for a moment.

        :raises ConfigInvalid: the file cannot be used, or is gone.
        """
        return self._discovery.find(wishes_of(self._section()), asking=False)

    def find(self) -> Catalogue:
        """Read the configuration, and find; blocks.

        :raises ConfigInvalid: the file cannot be used, or is gone.
        """
        section = self._section()
        catalogue = self._discovery.find(wishes_of(section))
        _tell(section, catalogue)
        return catalogue

    def _section(self) -> NodeSection:
        section = load(self._file, required=self._required).node
        self._required = self._required or self._file.exists()
        return section


def _tell(section: NodeSection, catalogue: Catalogue) -> None:
    """Into the log, what somebody should look at."""
    for fault in catalogue.broken:
        cause = f"cannot be used ({fault.name}): {fault.sentence.rstrip('.')}"
        error = PluginFailed(fault.distribution, fault.version, cause)
        _log.warn("{sentence}", sentence=error.sentence)
    for name in not_installed(section, catalogue):
        _log.warn("palyra.toml configures {name}, which no plugin here has", name=name)
