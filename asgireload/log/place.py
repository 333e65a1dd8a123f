"""The place of a process: its role, slot and generation, which are part of every line that it logs.

Each process has one place, which it sets at its start or after a fork.
"""

import logging

import msgspec


class Place(msgspec.Struct, frozen=True):
    """The place of a process in the server. `tag` is shown in brackets after the level of a text line."""

    role: str
    slot: int | None = None
    generation: int | None = None
    tag: str | None = None


_here = Place("supervisor")


def here() -> Place:
    """Return the place of this process."""
    return _here


def settle(place: Place) -> None:
    """Set the place of this process."""
    global _here
    _here = place


def log_fields(
    role: str, slot: int | None = None, generation: int | None = None
) -> dict[str, object]:
    """Return the `extra` of a log call about a child, so that log handlers see which child the line is about."""
    return {"role": role, "slot": slot, "generation": generation}


class PlaceFilter(logging.Filter):
    """Passes every record, and adds the fields of this process's place unless the caller has set them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "role"):
            place = here()
            record.role = place.role
            record.slot = place.slot
            record.generation = place.generation
        return True
