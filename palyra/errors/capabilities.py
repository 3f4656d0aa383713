"""Capabilities on a device: plugins that fail, workers that die, owners who configure them."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError
from palyra.errors.jobs import CapabilityNotGranted


@attrs.define
class WorkerDied(PalyraError):
    """The process that ran a capability ended in the middle; ``cause`` says how, without a point
    at its end."""

    code = "worker_died"
    category = Category.INTERNAL
    capability: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"The process that ran {self.capability} ended: {self.cause}."

    @property
    def hint(self) -> str:
        return f"on the device: palyra capability show {self.capability}"


@attrs.define
class PluginFailed(PalyraError):
    """A plugin cannot be used; ``cause`` is a sentence without a point at its end."""

    code = "plugin_failed"
    category = Category.PRECONDITION
    distribution: str
    version: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"{self.distribution} {self.version} {self.cause}. The other plugins run."

    @property
    def hint(self) -> str:
        return f"mend or uninstall {self.distribution}, then: palyra node reload"


@attrs.define
class SettingsInvalid(PalyraError):
    """What the device's owner configured for a capability is not what its plugin takes.

    ``field`` is below ``settings``; the value itself is never shown, for it may be a secret.
    """

    code = "settings_invalid"
    category = Category.INVALID
    capability: str
    field: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"The settings of {self.capability} do not fit: {self.field}: {self.problem}."

    @property
    def hint(self) -> str:
        return f"palyra capability show {self.capability}"


@attrs.define
class CapabilityChanged(CapabilityNotGranted):
    """What the device offers under that name is not what it was granted for."""

    code = "capability_changed"

    @property
    def sentence(self) -> str:
        return (
            f"{self.capability} on {self.name} has changed since it was granted; an operator must "
            "grant it again."
        )


@attrs.define
class GrantOutdated(PalyraError):
    """What the device offers under that name is not what the operator who grants it was shown."""

    code = "grant_outdated"
    category = Category.CONFLICT
    name: str
    capability: str

    @property
    def sentence(self) -> str:
        return f"{self.name} offers something else as {self.capability} by now; nothing is changed."

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class CapabilityNotInstalled(PalyraError):
    """No plugin here brings it; ``nearest`` are names that are close."""

    code = "capability_unknown"
    category = Category.NOT_FOUND
    capability: str
    nearest: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        maybe = f" Did you mean {', '.join(self.nearest)}?" if self.nearest else ""
        return f"No plugin of this installation has a capability {self.capability}.{maybe}"

    @property
    def hint(self) -> str:
        return "palyra capability list"


@attrs.define
class NodeHostNotRunning(PalyraError):
    """Nobody answers on the node host's control socket."""

    code = "node_not_running"
    category = Category.UNAVAILABLE
    exit_code = 3
    state_root: str

    @property
    def sentence(self) -> str:
        return f"No node host runs on state root {self.state_root}."

    @property
    def hint(self) -> str:
        return "palyra node run, or set PALYRA_STATE_ROOT"


@attrs.define
class NodeHostSilent(PalyraError):
    """A node host listens for its owner at ``where``, and gives no answer that can be used."""

    code = "node_not_answering"
    category = Category.UNAVAILABLE
    retryable = True
    exit_code = 3
    where: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"The node host does not answer on {self.where}: {self.cause}."

    @property
    def hint(self) -> str:
        return "palyra node restart"


@attrs.define
class ProjectNotWritten(PalyraError):
    """A new plugin's directory cannot be made, or something is there; ``cause`` has no point at its
    end."""

    code = "project_not_written"
    category = Category.CONFLICT
    directory: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"{self.directory} was not written: {self.cause}."

    @property
    def hint(self) -> str:
        return "palyra capability new NAME --dir DIR"
