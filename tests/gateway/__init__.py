"""Tests of palyra.gateway."""
