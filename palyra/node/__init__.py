"""The node host: the process on a device that runs capabilities for its gateway."""
