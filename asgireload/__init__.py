"""asgireload: an ASGI server whose code can be replaced while it serves.

Public names: `run()` starts a server from Python, `draining()` tells an application that its worker
is about to leave.
"""

__version__ = "0.1.0"
