"""Promises of the store room."""
