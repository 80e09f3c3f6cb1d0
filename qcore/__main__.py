"""`python -m qcore` is the `qcore` command."""

import sys

from qcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
