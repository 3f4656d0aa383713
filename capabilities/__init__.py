"""The first-party capabilities, loaded like anybody else's from ``palyra.capabilities``."""
