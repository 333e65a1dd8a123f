"""`python -m benchmarks.frameworks`."""

import sys

from .run import main

if __name__ == "__main__":
    sys.exit(main())
