"""Which process of the server this is: part of every line that it logs.

There is one place for each process. It changes where a process becomes another: in a fork.
"""

import logging

import msgspec


class Place(msgspec.Struct, frozen=True):
    """A process of the server. `tag` stands in brackets behind the level of a text line."""

    role: str
    slot: int | None = None
    generation: int | None = None
    tag: str | None = None


_here = Place("supervisor")


def here() -> Place:
    """Return the place of this process."""
    return _here


def settle(place: Place) -> None:
    """Say which process this is from now on."""
    global _here
    _here = place


def log_fields(
    role: str, slot: int | None = None, generation: int | None = None
) -> dict[str, object]:
    """Return the `extra` of a log call, so that handlers of the user see which child a line is about."""
    return {"role": role, "slot": slot, "generation": generation}


class PlaceFilter(logging.Filter):
    """Lets every record pass, with the fields of this place where the caller has given no others."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "role"):
            place = here()
            record.role = place.role
            record.slot = place.slot
            record.generation = place.generation
        return True
