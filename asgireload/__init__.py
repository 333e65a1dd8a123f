"""asgireload: an ASGI server whose code can be replaced while it serves.

Public names: `run()` starts a server from Python, `draining()` tells an application that its worker
is about to leave.
"""

# Bound after the module of the same name was imported, so `asgireload.draining` stays the function.
from asgireload.draining import draining

__all__ = ["__version__", "draining", "run"]

__version__ = "0.1.0"


def run(app: str, **options: object) -> None:
    """Serve `app`, an import string such as `"main:app"`, until told to stop.

    Options are those of the command line, by their own names or by uvicorn's keywords. Raise ConfigError
    for what cannot be used; end the process (SystemExit) with the status of the command line when the
    server could not start or gave up.
    """
    # Applications import this package for draining(); they need no command line for that.
    from asgireload.cli.serve import run_with_keywords

    run_with_keywords(app, options)
