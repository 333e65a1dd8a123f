"""What clients of every kind notice while a server's code is replaced: `make reload-bench`."""
