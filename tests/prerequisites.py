"""Say which tests will be skipped for want of a program or package: run before the suite by `make test`."""

import importlib.util
import shutil

OPTIONAL = {
    "chromium": "the tests that load pages in a browser",
    "curl": "the tests that use curl as a client",
    "haproxy": "the tests of event streams behind HAProxy, and of its configuration in docs/",
    "nginx": "the tests of event streams behind nginx, and of its configurations in docs/",
}
OPTIONAL_PACKAGES = {
    "confluent_kafka": "the tests of its threads in a fork",
    "coverage": "the test of coverage around the server",
    "ddtrace": "the test of ddtrace-run",
    "debugpy": "the test of debugpy around the server",
    "duckdb": "the tests of its file lock in a fork",
    "grpc": "the tests of its threads in a fork",
    "mcp": "the tests of the Model Context Protocol",
    "numpy": "the tests of OpenBLAS in a fork",
    "opentelemetry": "the tests of opentelemetry-instrument and of its exporter in workers",
    "pex": "the test of a start from a pex file",
    "polars": "the tests of its threads in a fork",
    "pyarrow": "the tests of its threads in a fork",
    "sentry_sdk": "the tests of its flush in workers",
    "shiv": "the test of a start from a zipapp of shiv",
}
"""The extra `libraries` of pyproject.toml installs all of them."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where proxies are looked for as well: a user's own PATH often lacks sbin."""


def find(program: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=PATH)


def missing() -> dict[str, str]:
    """Return the programs and packages that are not installed, with what is skipped for want of them."""
    programs = {name: what for name, what in OPTIONAL.items() if find(name) is None}
    packages = {
        name: what
        for name, what in OPTIONAL_PACKAGES.items()
        if importlib.util.find_spec(name) is None
    }
    return programs | packages


if __name__ == "__main__":
    for name, what in missing().items():
        hint = " (make test-libraries)" if name in OPTIONAL_PACKAGES else ""
        print(f"skipped without {name}: {what}{hint}")
