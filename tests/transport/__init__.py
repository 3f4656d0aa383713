"""Tests of palyra.transport."""
