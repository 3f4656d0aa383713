"""Tests of palyra.console."""
