"""Tests of palyra.config."""
