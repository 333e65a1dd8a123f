"""Installs frameworks, middleware and uvicorn into a virtual environment of their own, .venv-frameworks.

    python -m benchmarks.frameworks.environment [--environment .venv-frameworks]

Runs on any Python with the standard library; the newest versions that pip finds for it are taken. A middleware
that does not install is named and left out of the comparison; without a framework or a server this fails.
"""

import argparse
import sys
import venv
from pathlib import Path

from benchmarks.common.machine import ROOT
from benchmarks.common.packages import install

NEEDED = (
    f"{ROOT}[standard]",
    "uvicorn[standard]",
    "starlette",
    "fastapi",
    "django",
    "litestar",
    "quart",
    "baize",
    "itsdangerous",
    "python-multipart",
    "sse-starlette",
    "cryptography",  # for the sessions of Litestar
)
"""Installed as one: the comparison is about these."""
MIDDLEWARE = (
    "a2wsgi",
    "asgi-correlation-id",
    "asgi-cors",
    "asgi-csrf",
    "asgi-gzip",
    "asgi-logger",
    "brotli-asgi",
    "django-compression-middleware",
    "elastic-apm",
    "opentelemetry-instrumentation-asgi",
    "prometheus-fastapi-instrumentator",
    "secure",
    "sentry-sdk",
    "slowapi",
    "starlette-compress",
    "starlette-context",
    "starlette-csrf",
    "starlette-exporter",
    "starlette-prometheus",
    "starsessions",
    "timing-asgi",
    "whitenoise",
    "zstd-asgi",
)
"""Each is installed by itself; pip keeps what is there already where it can."""


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-frameworks")
    environment: Path = parser.parse_args().environment
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    # All at once is what resolves to versions that agree; one by one tells which does not install.
    if install(python, (*NEEDED, *MIDDLEWARE)) is None:
        print("everything is installed")
        return
    reason = install(python, NEEDED)
    if reason is not None:
        sys.exit(f"the comparison needs {', '.join(NEEDED)}: {reason}")
    for package in MIDDLEWARE:
        reason = install(python, (package,))
        print(f"{package}: " + ("installed" if reason is None else f"left out: {reason}"))


if __name__ == "__main__":
    main()
