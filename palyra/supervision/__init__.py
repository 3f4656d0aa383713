"""The operating system's service managers, and how a node host is given into their care."""
