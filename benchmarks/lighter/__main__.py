"""python -m benchmarks.lighter"""

from .run import main

if __name__ == "__main__":
    main()
