"""Capabilities: how a plugin describes them, how a host finds them and how a handler is run.

A plugin author needs this import only::

    from palyra.capability import Capability, CapabilityContext, Risk, hookimpl
"""

from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.descriptor import Capability, Risk
from palyra.capability.hookspecs import RunFacts, hookimpl, hookspec
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.capability.settings import Secret

__all__ = [
    "Capability",
    "CapabilityContext",
    "DeviceFacts",
    "Outcome",
    "OutcomeKind",
    "Risk",
    "RunFacts",
    "Secret",
    "hookimpl",
    "hookspec",
]
