"""Palyra lets a server use the abilities of devices it trusts."""

__version__ = "0.1.0"
