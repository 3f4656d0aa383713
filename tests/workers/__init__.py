"""Tests of palyra.workers."""
