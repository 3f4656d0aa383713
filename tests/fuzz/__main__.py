"""``python -m tests.fuzz --seconds N [--target NAME]``: search with atheris, guided by coverage.

Each target has its share of the time, in a process of its own.  An input that breaks a promise is
kept in the directory named by ``--keep``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LONGEST_INPUT = 8_192
LONGEST_RUN_S = 5
MEMORY_MIB = 2_048


def main(arguments: Sequence[str] | None = None) -> int:
    """Search all targets, or the one that is named."""
    options = _options().parse_args(arguments)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        return 2
    if options.one:
        return _search(atheris, options.one, options.seconds, options.keep)
    from tests.fuzz.targets import TARGETS

    names = [options.target] if options.target else list(TARGETS)
    if not set(names) <= set(TARGETS):
        print(f"no such target; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    options.keep.mkdir(parents=True, exist_ok=True)
    share = max(1, options.seconds // len(names))
    broken = [name for name in names if not _searched(name, share, options.keep)]
    print(f"{len(names)} targets, {share} s each; broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=240, help="for all targets together")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="for what is found")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def _searched(name: str, seconds: int, keep: Path) -> bool:
    """Search one target in another process, because libFuzzer ends the one it runs in."""
    options = ["--one", name, "--seconds", str(seconds), "--keep", str(keep)]
    command = [sys.executable, "-m", "tests.fuzz", *options]
    done = subprocess.run(command, check=False, capture_output=True, timeout=seconds + 120)
    if done.returncode:
        print(f"-- {name}\n{done.stderr.decode(errors='replace')[-4_000:]}", file=sys.stderr)
    return not done.returncode


def _search(atheris: Any, name: str, seconds: int, keep: Path) -> int:
    with atheris.instrument_imports(include=["palyra"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = [
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={LONGEST_RUN_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={keep / name}-",
        ]
        atheris.Setup([sys.argv[0], *limits, corpus], lambda data: target.check(data) and None)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
