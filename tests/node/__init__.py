"""Tests of :mod:`palyra.node`."""
