"""The admin surface: what operators, probes and scripts see of a running server, and what they may ask.

`port` is all it knows of the supervisor. `api` is the ASGI application, `server` serves it, `access`
decides who may use it; `client` is the other end, for the command line.
"""
