"""Plugins: which are installed, what they offer, and what the device's owner wants of it."""
