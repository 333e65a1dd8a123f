"""Import at once what a framework would import at the first request.

A generation is one load of the code, so nothing of the application may be read from disk later; and a
broken module must refuse the reload, not fail the first client.
"""

import contextlib
import importlib
import sys


def import_the_rest() -> None:
    """Import what the loaded application puts off. Errors of the user's code pass unchanged.

    Django imports `ROOT_URLCONF`, and with it the views, when the first request is routed. FastAPI has a module
    that it imports in each worker's lifespan.
    """
    if "django.core.handlers.base" in sys.modules:
        from django.conf import settings

        # Django may serve for its database layer alone, or have been imported by somebody's tools.
        root = getattr(settings, "ROOT_URLCONF", None) if settings.configured else None
        if root is not None:
            importlib.import_module(root)
    if "fastapi.telemetry" in sys.modules:
        # Its own business, which another version may have arranged otherwise: what matters is told by the
        # lifespan, which asks for it.
        with contextlib.suppress(ImportError):
            importlib.import_module("fastapi.telemetry._runtime")
