"""Tests of palyra.wire."""
