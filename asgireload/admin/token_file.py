"""Read the file that holds the bearer token of the admin port. `access` compares tokens."""

import os
import stat

from asgireload.errors import ConfigError

MAX_TOKEN_BYTES = 4096
"""Longest token; it is below all common header limits, so an accepted token can also be sent."""


def read_token_file(path: str) -> str:
    """Return the token, without surrounding white space.

    Raise ConfigError when the file cannot be read, is readable by group or others, or holds no token
    that an Authorization header can carry.
    """
    try:
        # O_NONBLOCK: open(2) of a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"admin_token_file {path!r}: {error.strerror}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"admin_token_file {path!r} is not a regular file")
        if mode & 0o077:
            raise ConfigError(
                f"admin_token_file {path!r} can be used by group or others (mode {mode & 0o777:03o}): "
                f"chmod 600 {path}"
            )
        content = os.read(descriptor, MAX_TOKEN_BYTES + 1).strip()
    finally:
        os.close(descriptor)
    if not content:
        raise ConfigError(f"admin_token_file {path!r} is empty")
    if len(content) > MAX_TOKEN_BYTES:
        raise ConfigError(f"admin_token_file {path!r} holds more than {MAX_TOKEN_BYTES} bytes")
    if any(not 0x21 <= byte <= 0x7E for byte in content):
        raise ConfigError(
            f"admin_token_file {path!r} must hold one token of printable ASCII without spaces"
        )
    return content.decode("ascii")
