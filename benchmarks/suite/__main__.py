"""`python -m benchmarks.suite`."""

from .run import main

if __name__ == "__main__":
    main()
