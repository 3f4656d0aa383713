"""Promises of the observe room."""
