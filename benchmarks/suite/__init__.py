"""The benchmark suite: servers in turn, pinned, in interleaved rounds. `python -m benchmarks.suite --help`."""
