"""The plugin, run as a node would."""

pytest_plugins = ["palyra.testing.capability"]
