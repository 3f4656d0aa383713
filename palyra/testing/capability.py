"""The test kit for authors of capabilities.  In ``tests/conftest.py``::

    pytest_plugins = ["palyra.testing.capability"]

and in a test::

    def test_it_prints(capability_host):
        host = capability_host(palyra_cap_printer)        # a module: in a thread
        host = capability_host("palyra-cap-printer")      # installed: in a worker process
        assert host.run("printer.print_page", {"text": "hello"}).succeeded

``python -m palyra.testing.capability DISTRIBUTION`` checks what every plugin must keep to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra.capability.outcome import OutcomeKind
from palyra.capability.wording import one_line
from palyra.config import load
from palyra.errors import PalyraError
from palyra.node.finding import wishes_of
from palyra.testing.capabilityhost import DEVICE, CapabilityHost, Progress, RunResult, Source
from palyra.testing.conformance import Finding, Verdict, check_conformance, examine

__all__ = [
    "DEVICE",
    "CapabilityHost",
    "Finding",
    "OutcomeKind",
    "Progress",
    "RunResult",
    "Source",
    "Verdict",
    "capability_host",
    "check_conformance",
    "examine",
]


@pytest.fixture(scope="module")
def capability_host() -> Iterator[Callable[[Source], CapabilityHost]]:
    """Makes a :class:`CapabilityHost` of a plugin, the same one for all tests of a module; so its
    processes stay warm.  It is closed after the last of them."""
    with ExitStack() as open_hosts:
        hosts: dict[object, CapabilityHost] = {}

        def made(source: Source) -> CapabilityHost:
            key = source if isinstance(source, str) else id(source)
            if key not in hosts:
                hosts[key] = open_hosts.enter_context(CapabilityHost(source))
            return hosts[key]

        yield made


def main(arguments: Sequence[str]) -> int:
    """Check a distribution, a line a check; 0 where it may be published, 1 where not."""
    asked = _parser().parse_args(arguments)
    try:
        settings = wishes_of(load(asked.config).node).settings if asked.config else {}
        examples = dict(_example(each) for each in asked.example)
    except (PalyraError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    findings = []
    for each in examine(asked.distribution, examples=examples, settings=settings):
        print(one_line(str(each), 1024), flush=True)
        findings.append(each)
    bad = sum(each.verdict is Verdict.FAIL for each in findings)
    made = f"{len(findings)} check{'' if len(findings) == 1 else 's'}"
    print(f"{made}, {bad or 'none'} failed")
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m palyra.testing.capability",
        description="Check what every plugin must keep to.",
    )
    parser.add_argument("distribution", help="as it is installed here")
    parser.add_argument(
        "--example",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="an input that may be run, of the capability NAME; several times for several",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a palyra.toml with settings for the examples"
    )
    return parser


def _example(text: str) -> tuple[str, Any]:
    name, found, written = text.partition("=")
    try:
        return name, msgspec.json.decode(written if found else "")
    except msgspec.DecodeError as error:
        raise ValueError(f"--example {one_line(text, 80)}: it is not NAME=JSON") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
