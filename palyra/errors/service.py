"""A node host as a service of its machine: installing, starting, asking and removing it."""

from __future__ import annotations

import shlex

import attrs

from palyra.errors.base import Category, PalyraError
from palyra.errors.host import GatewayUnreachable


@attrs.define
class ServiceManagerFailed(PalyraError):
    """A program of the service manager refused; ``doing`` is its command line, ``said`` its last
    line without a point."""

    code = "service_manager_failed"
    category = Category.PRECONDITION
    doing: str
    said: str
    remedy: str = "palyra node status"

    @property
    def sentence(self) -> str:
        return f"{self.doing} failed: {self.said or 'it did not say why'}."

    @property
    def hint(self) -> str:
        return self.remedy


@attrs.define
class ServiceManagerMissing(PalyraError):
    """The service manager that was asked for does not run here."""

    code = "service_manager_missing"
    category = Category.PRECONDITION
    manager: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.manager} cannot be used here: {self.problem}."

    @property
    def hint(self) -> str:
        return "palyra node install --manager process"


@attrs.define
class ServiceElsewhere(PalyraError):
    """The service is there already, for another state root."""

    code = "service_elsewhere"
    category = Category.CONFLICT
    where: str
    state_root: str

    @property
    def sentence(self) -> str:
        return f"{self.where} is installed already, for state root {self.state_root}."

    @property
    def hint(self) -> str:
        return f"palyra node uninstall --state-root {shlex.quote(self.state_root)}"


@attrs.define
class NotInstalled(PalyraError):
    """No service was installed for this state root."""

    code = "node_not_installed"
    category = Category.PRECONDITION
    state_root: str

    @property
    def sentence(self) -> str:
        return f"No node host is installed as a service on state root {self.state_root}."

    @property
    def hint(self) -> str:
        return "palyra node install --start"


@attrs.define
class HostOutsideService(PalyraError):
    """A node host serves this state root, and is not a service: it runs in a terminal."""

    code = "node_outside_service"
    category = Category.CONFLICT
    state_root: str
    pid: int

    @property
    def sentence(self) -> str:
        return f"A node host (pid {self.pid}) runs on {self.state_root}, but not as a service."

    @property
    def hint(self) -> str:
        return f"end it with Ctrl-C in its terminal, or kill {self.pid}"


@attrs.define
class InterpreterUnusable(PalyraError):
    """The user that the service would run as cannot run this installation."""

    code = "interpreter_unusable"
    category = Category.PRECONDITION
    python: str
    user: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"User {self.user} cannot run {self.python}: {self.problem}."

    @property
    def hint(self) -> str:
        return f"install Palyra where {self.user} can read it (python3 -m venv /opt/palyra)"


@attrs.define
class AccountUnknown(PalyraError):
    """No user of this machine has that name, or it may not be used."""

    code = "account_unknown"
    category = Category.PRECONDITION
    user: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"A service cannot run as {self.user}: {self.problem}."

    @property
    def hint(self) -> str:
        return "palyra node install --run-as USER"


@attrs.define
class CredentialsUnsupported(PalyraError):
    """Only systemd hands credentials to a service."""

    code = "credentials_unsupported"
    category = Category.PRECONDITION
    manager: str

    @property
    def sentence(self) -> str:
        return f"{self.manager} hands no credentials to a service; only systemd does."

    @property
    def hint(self) -> str:
        return 'write { file = "/absolute/path" } in the settings instead'


@attrs.define
class DidNotStart(PalyraError):
    """The node host was started, and ended again; ``last_line`` is what it said at the end."""

    code = "node_did_not_start"
    category = Category.PRECONDITION
    last_line: str

    @property
    def sentence(self) -> str:
        said = self.last_line.rstrip(".") or "it did not say why"
        return f"The node host ended at its start: {said}."

    @property
    def hint(self) -> str:
        return "palyra node logs"


@attrs.define
class DidNotStop(PalyraError):
    """A process does not end, also when it is killed."""

    code = "node_did_not_stop"
    category = Category.UNAVAILABLE
    pid: int

    @property
    def sentence(self) -> str:
        return f"The node host (pid {self.pid}) does not end."

    @property
    def hint(self) -> str:
        return "palyra node logs"


@attrs.define
class NotANodeHost(PalyraError):
    """A directory that is not to be removed, since it may be somebody else's."""

    code = "not_a_node_host"
    category = Category.CONFLICT
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.path} was not removed: {self.problem}."

    @property
    def hint(self) -> str:
        return "palyra node uninstall --state-root DIR"


@attrs.define
class FileTooNew(PalyraError):
    """A file of the node host was written by a newer version, in a form this one does not know."""

    code = "file_too_new"
    category = Category.PRECONDITION
    file: str
    schema_version: int

    @property
    def sentence(self) -> str:
        return f"{self.file} was written by a newer Palyra (schema {self.schema_version})."

    @property
    def hint(self) -> str:
        return "pip install --upgrade palyra"


@attrs.define
class ProxyUnusable(GatewayUnreachable):
    """The way to the gateway is through a proxy that cannot be used, or refused.

    ``address`` is the proxy's HOST:PORT, with nothing secret in it, and ``cause`` what is wrong.
    """

    code = "proxy_unusable"

    @property
    def where(self) -> str:
        return f"proxy {self.address}"

    @property
    def unreached(self) -> bool:
        """The gateway was not heard: another of its addresses may need no proxy."""
        return True

    @property
    def cut(self) -> bool:
        """It says nothing of a certificate, whatever the words."""
        return False

    @property
    def sentence(self) -> str:
        return f"The proxy {self.address} does not lead to the gateway: {self.cause}."

    @property
    def hint(self) -> str:
        return "set no_proxy to the gateway's name, or mend https_proxy"
