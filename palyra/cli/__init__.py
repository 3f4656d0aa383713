"""The ``palyra`` command: one file a verb group."""

from palyra.cli.main import main

__all__ = ["main"]
