"""Tests of how gateways from afar are known and reached."""
