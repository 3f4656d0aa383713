"""Benchmarks: programs that measure Palyra as it is installed; see README.md beside this file."""
