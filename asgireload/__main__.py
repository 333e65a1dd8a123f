"""`python -m asgireload` is the same as the `asgireload` command."""

import sys

from asgireload.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
