"""The id of a request, for --request-id-header: taken from the client or made, and sent back. Pure.

An id that a client sends is used only if it can stand in any log without harm.
"""

import re
import uuid
from collections.abc import Sequence

# What trace ids, UUIDs, ULIDs and Amazon's `Root=1-…` are made of; none of it means anything to a log.
_SAFE = re.compile(rb"[A-Za-z0-9._~+/=:@\-]{1,128}")

EXTENSION = "asgireload.request"
"""Key in `scope["extensions"]`; its value is `{"id": …}`."""


class RequestIds:
    """Gives requests their ids. `name` is the header's, in lowercase."""

    __slots__ = ("_name", "_prefix")

    def __init__(self, name: str) -> None:
        self._name = name.encode("ascii")
        self._prefix = self._name + b": "

    def of(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the id that the request carries, else a new one of 32 hexadecimal digits.

        A header that comes twice is not believed: the processes behind us might take the other.
        """
        name = self._name
        found = [value for key, value in headers if key == name]
        if len(found) == 1 and _SAFE.fullmatch(found[0]):
            return found[0].decode("ascii")
        return uuid.uuid4().hex

    def default_line(self, request_id: str) -> tuple[bytes, bytes]:
        """Return name and header line for the response, sent unless the application sends its own."""
        return self._name, self._prefix + request_id.encode("ascii") + b"\r\n"
