"""``palyra.toml`` as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import msgspec

from palyra.config.audit import AuditSection
from palyra.config.console import ConsoleSection
from palyra.config.enrolment import EnrolmentSection
from palyra.config.gateway import GatewaySection
from palyra.config.jobs import JobsSection
from palyra.config.listen import ListenSection
from palyra.config.metrics import MetricsSection
from palyra.config.node import NodeSection
from palyra.config.policy import PolicySection
from palyra.config.reading import as_text, parse_toml, read_bytes
from palyra.config.store import StoreSection
from palyra.config.tracing import TracingSection
from palyra.config.webhooks import WebhookSection
from palyra.core.identifiers import sha256_hex


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attribute a section; an absent section has its defaults."""

    gateway: GatewaySection = GatewaySection()
    listen: ListenSection = ListenSection()
    console: ConsoleSection = ConsoleSection()
    enrolment: EnrolmentSection = EnrolmentSection()
    jobs: JobsSection = JobsSection()
    node: NodeSection = NodeSection()
    metrics: MetricsSection = MetricsSection()
    store: StoreSection = StoreSection()
    policy: PolicySection = PolicySection()
    audit: AuditSection = AuditSection()
    tracing: TracingSection = TracingSection()
    webhook: tuple[WebhookSection, ...] = ()


def load(path: Path, *, required: bool = False) -> Config:
    """Read a configuration file; a missing one that nobody named is all defaults.

    :raises ConfigInvalid: naming the file, the value's path and what is wrong with it.
    """
    data = read_bytes(path, required)
    return parse(as_text(data, path), str(path))


def load_policy(path: Path, *, required: bool = False) -> tuple[PolicySection, str]:
    """The rules of a configuration file, and SHA-256 (hex) of the bytes that they were read from.

    The rest of the file is checked too, and left.  As with :func:`load` a missing file that is not
    ``required`` has no rules; whoever reads it again requires it, lest its rules vanish with it.

    :raises ConfigInvalid: as :func:`load`.
    """
    data = read_bytes(path, required)
    return parse(as_text(data, path), str(path)).policy, sha256_hex(data)


def parse(text: str, file: str) -> Config:
    """Read the text of a configuration file; ``file`` is only for errors."""
    return parse_toml(text, Config, file, _described)


def _described(path: str) -> str:
    """What a value must be, where its section says it better than a pattern would."""
    section, _, name = path.partition(".")
    made = getattr(Config(), section, None)
    hint = get_type_hints(type(made), include_extras=True).get(name)
    said = (getattr(meta, "description", "") for meta in getattr(hint, "__metadata__", ()))
    return "".join(each or "" for each in said)
