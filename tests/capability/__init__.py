"""Tests of palyra.capability."""
