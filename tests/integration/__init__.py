"""Real processes on real sockets, run from the installed package."""
