"""The admin interface: how operators, probes and scripts observe and control a running server.

`port` is its interface to the supervisor. `api` is the ASGI application, `server` serves it, and `access` decides
which requests are allowed. `client` sends requests for the command line.
"""
