"""The lines of ``palyra quickstart``, and the one it reads from the node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec

from palyra.cli import words
from palyra.console.models import NodeItem
from palyra.core.identifiers import short_id

_LABEL = 19
_VALUE = 41
_TIME = 6


@attrs.frozen
class Chosen:
    """A listener and its port; ``wanted`` is the default one."""

    name: str
    wanted: int
    port: int

    def __str__(self) -> str:
        taken = "" if self.port == self.wanted else f" ({self.wanted} was taken)"
        return f"{self.name} {self.port}{taken}"


@attrs.frozen
class Announced:
    """What the node's own process says it is."""

    name: str
    short: str
    fingerprint: str


def announced(lines: Iterable[str]) -> Announced | None:
    """The line ``identity<TAB>NAME<TAB>SHORTID<TAB>FINGERPRINT`` among those a node printed."""
    for line in lines:
        parts = line.split("\t")
        if len(parts) == 4 and parts[0] == "identity":
            return Announced(*parts[1:])
    return None


def gateway(ports: Sequence[Chosen]) -> str:
    """Where the gateway listens."""
    return _ok("gateway started", ", ".join(map(str, ports)))


def paired(node: NodeItem) -> str:
    """Who was paired, and how."""
    who = f"{words.escaped(node.name)}  {short_id(node.device_id)}"
    return _ok("node paired", f"{who}  over {node.transport}, single-use code, approved")


def answered(capability: str, output: Any, took_ms: int) -> str:
    """What a capability answered, in one line, and how long it took."""
    say = {"echo": _echo, "system.health": _health, "system.identity": _identity}[capability]
    text = words.cut_end(words.escaped(say(output)), _VALUE)
    return _ok(capability, f"{text:<{_VALUE}}{words.duration(took_ms, ' '):>{_TIME}}")


def failed(capability: str, why: str) -> str:
    """A capability that did not succeed."""
    return f"!!  {capability:<{_LABEL}}{words.escaped(why)}"


def _ok(label: str, text: str) -> str:
    return f"ok  {label:<{_LABEL}}{text}"


def _echo(output: Any) -> str:
    if not isinstance(output, dict) or not output:
        return _compact(output)
    key, value = next(iter(output.items()))
    more = ",...}" if len(output) > 1 else "}"
    return _compact({key: value})[:-1] + more


def _health(output: Any) -> str:
    """``cpu 7%  memory 41%  disk 63%  up 3d``, as far as the answer has it."""
    shares = []
    for name in ("cpu", "memory", "disk"):
        percent = _within(output, name, "percent")
        if isinstance(percent, int | float):
            shares.append(f"{name} {percent:.0f}%")
    up = _within(output, "uptime", "system_s")
    if isinstance(up, int | float):
        shares.append(f"up {words.age(int(up * 1000))}")
    return "  ".join(shares) or _compact(output)


def _identity(output: Any) -> str:
    if not isinstance(output, dict) or "name" not in output:
        return _compact(output)
    machine = " ".join(str(output[key]) for key in ("platform", "machine") if output.get(key))
    return f"{output['name']}  {machine}"


def _within(output: Any, *path: str) -> Any:
    for key in path:
        output = output.get(key) if isinstance(output, dict) else None
    return output


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()
