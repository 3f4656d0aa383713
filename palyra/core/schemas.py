"""JSON Schemas of capabilities: which are taken, and what is wrong with a value."""

from palyra.core.schemaprofile import check_profile

__all__ = ["check_profile"]
