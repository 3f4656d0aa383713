"""Promises of the pki room."""
