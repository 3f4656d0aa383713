"""Gateways from afar: what this account keeps of them, and how their console is reached."""
