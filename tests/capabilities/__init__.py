"""Tests of the first-party capabilities."""
