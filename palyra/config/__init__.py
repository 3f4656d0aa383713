"""Configuration: one file a section of ``palyra.toml``; every value has a default and a unit."""

from palyra.config.root import Config, load

__all__ = ["Config", "load"]
