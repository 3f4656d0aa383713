"""Generated from ``proto/palyra/wire/v1``; ``tox -e proto`` checks that it is current."""
