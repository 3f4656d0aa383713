"""Modules generated from ``proto/palyra/wire/v1``; ``tox -e proto`` checks that they are current."""
