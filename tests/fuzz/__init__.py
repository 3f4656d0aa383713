"""Everything that reads what others wrote, under inputs that nobody thought of.

``targets`` names each reader; ``test_targets`` runs hypothesis over all of them with every test
run, and ``python -m tests.fuzz`` searches for minutes, guided by coverage.
"""
