"""Tests of ``palyra mcp``."""
