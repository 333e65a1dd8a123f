"""asgireload: an ASGI server whose code can be replaced while it serves.

Public names: `run()` starts a server from Python, and `draining()` returns the drain notice of the worker.
"""

# The import of the module `asgireload.draining` binds its name first; this import then binds the function.
from asgireload.draining import draining

__all__ = ["__version__", "draining", "run"]

__version__ = "0.1.0"


def run(app: str, **options: object) -> None:
    """Serve `app`, an import string such as `"main:app"`, until the server is stopped.

    Options are those of the command line, by their own names or by uvicorn's keywords. Raise ConfigError for an
    unknown option or a value that cannot be used, and SystemExit with the exit status of the command line when the
    server could not start, gave up, or a lifespan shutdown failed.
    """
    # Imported late: applications import this package for draining(), without the command line.
    from asgireload.cli.serve import run_with_keywords

    run_with_keywords(app, options)
