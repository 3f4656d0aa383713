"""``python -m palyra`` is the ``palyra`` command."""

import sys

from palyra.cli import main

if __name__ == "__main__":
    sys.exit(main())
