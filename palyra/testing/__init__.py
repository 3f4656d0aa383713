"""Shipped test kit: the fakes that Palyra itself is tested with."""
