"""Import at load time the modules that a framework would import at the first request.

A generation is one load of the code, so no module of the application may be read from disk later, and a broken
module must fail the reload instead of the first request.
"""

import contextlib
import importlib
import sys


def import_the_rest() -> None:
    """Import the modules that the loaded application imports lazily. Exceptions of the user's code pass unchanged.

    Django imports `ROOT_URLCONF`, and with it the views, when the first request is routed. FastAPI imports a module
    in the lifespan of each worker.
    """
    if "django.core.handlers.base" in sys.modules:
        from django.conf import settings

        # Django may be used for its database layer only, or have been imported by a tool.
        root = getattr(settings, "ROOT_URLCONF", None) if settings.configured else None
        if root is not None:
            importlib.import_module(root)
    if "fastapi.telemetry" in sys.modules:
        # A private module, which other versions of FastAPI may not have. The lifespan imports it, too, and reports
        # a failure that matters.
        with contextlib.suppress(ImportError):
            importlib.import_module("fastapi.telemetry._runtime")
