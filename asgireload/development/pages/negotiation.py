"""Choose the form of a failure report by the Accept header. Pure. Source: RFC 9110 section 12.5.1."""

from collections.abc import Iterable
from typing import Literal

Form = Literal["html", "json", "text"]

_HTML = ("text/html", "application/xhtml+xml")
_JSON = ("application/json", "application/problem+json")


def choose_form(headers: Iterable[tuple[bytes, bytes]]) -> Form:
    """Return the form for the request's headers.

    Clients get HTML or JSON when they name it with a weight above 0. `*/*`, which every tool sends, gets text.
    """
    accepted = b",".join(value for name, value in headers if name == b"accept")
    weights = _weights(accepted.decode("latin-1"))
    html = max(weights.get(kind, 0.0) for kind in _HTML)
    json = max(weights.get(kind, 0.0) for kind in _JSON)
    if html == json == 0.0:
        return "text"
    if json > html:
        return "json"
    return "html"


def _weights(accept: str) -> dict[str, float]:
    """Return the weight of each media type; the greater one of a type that is named twice."""
    found: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _weight(value.strip())
        found[kind] = max(weight, found.get(kind, 0.0))
    return found


def _weight(text: str) -> float:
    digits = text.replace(".", "", 1)
    # An invalid weight counts as 0.
    return min(float(text), 1.0) if digits.isascii() and digits.isdigit() else 0.0
