"""Tests of the simulator, and of the gateway and the node host inside it."""
