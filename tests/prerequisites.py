"""Say which tests will be skipped for want of a program: run before the suite by `make test`."""

import shutil

OPTIONAL = {
    "chromium": "the tests that load pages in a browser",
    "curl": "the tests that use curl as a client",
}


def missing() -> dict[str, str]:
    """Return the programs that are not installed, with what is skipped for want of them."""
    return {name: what for name, what in OPTIONAL.items() if shutil.which(name) is None}


if __name__ == "__main__":
    for name, what in missing().items():
        print(f"skipped without {name}: {what}")
