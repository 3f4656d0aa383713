"""Generates ``palyra/wire/v1`` from the ``.proto`` files, or checks that it is current.

    python proto/generate.py            writes the modules
    python proto/generate.py --check    exits 1 and names the modules that differ

Generated code refuses to run under a grpcio or protobuf older than its generator, so the generator
is pinned: it sets the floors in setup.cfg.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

GENERATOR = "1.80.0"
ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
PACKAGE = Path("palyra/wire/v1")


def generate(target: Path) -> None:
    """Write the generated modules below ``target``, in the layout of the package."""
    names = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.glob(f"{PACKAGE}/*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "pyi")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", *outputs, *names]
    subprocess.run(command, check=True)
    for module in (target / PACKAGE).glob("*_pb2_grpc.py"):
        if "Servicer" not in module.read_text():  # the plugin writes one for files without services
            module.unlink()


def generated(root: Path) -> dict[str, bytes]:
    """The generated modules below ``root`` by file name."""
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2*.py*")}


def check() -> int:
    """Compare the checked-in modules with fresh ones; the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, kept = generated(Path(scratch)), generated(ROOT)
    stale = sorted(name for name in fresh | kept if fresh.get(name) != kept.get(name))
    for name in stale:
        print(f"{PACKAGE / name} is not what proto/ generates", file=sys.stderr)
    if stale:
        print("run: python proto/generate.py", file=sys.stderr)
    return 1 if stale else 0


def main() -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    if version("grpcio-tools") != GENERATOR:
        parser.error(f"needs the pinned generator: pip install grpcio-tools=={GENERATOR}")
    if arguments.check:
        return check()
    generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
