"""Tests of palyra.plugins."""
