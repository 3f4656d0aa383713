"""Tests of the ``palyra`` command."""
