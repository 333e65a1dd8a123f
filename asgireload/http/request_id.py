"""Request ids, for --request-id-header: taken from the request or generated, and sent in the response.

An id that a client sends is used only if it is safe in every log.
"""

import re
import uuid
from collections.abc import Sequence

# The characters of trace ids, UUIDs, ULIDs and Amazon's `Root=1-…`; none of them is special in a log line.
_SAFE = re.compile(rb"[A-Za-z0-9._~+/=:@\-]{1,128}")

EXTENSION = "asgireload.request"
"""Key in `scope["extensions"]`; its value is `{"id": …}`."""


class RequestIds:
    """Takes or generates request ids. `name`: the name of the header, in lowercase."""

    __slots__ = ("_name", "_prefix")

    def __init__(self, name: str) -> None:
        self._name = name.encode("ascii")
        self._prefix = self._name + b": "

    def of(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the id in the headers of a request, else a new id of 32 hexadecimal digits.

        A header that was sent twice is ignored: other servers might use the other value.
        """
        name = self._name
        found = [value for key, value in headers if key == name]
        if len(found) == 1 and _SAFE.fullmatch(found[0]):
            return found[0].decode("ascii")
        return uuid.uuid4().hex

    def default_line(self, request_id: str) -> tuple[bytes, bytes]:
        """Return the name and the header line for the response, which is sent unless the application sends one."""
        return self._name, self._prefix + request_id.encode("ascii") + b"\r\n"
