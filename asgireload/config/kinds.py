"""Kinds of option values: convert text, TOML values and Python values to the value of an option. Pure.

A kind does not have the origin of a value; it raises MismatchError with the expected form, and `sources.py` adds
the place.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

NONE = "none"
"""The text for None in a file, a variable or a flag, for an option that may be empty."""
HIDDEN = "(hidden)"
"""The text that is shown in place of a secret."""

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
_DURATION_FORM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_FORM = re.compile(r"(?i)(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NAME_FORM = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MODE_FORM = re.compile(r"0?[0-7]{3}")
_OWNER_FORM = re.compile(r"[^:\s]+(:[^:\s]+)?|:[^:\s]+")
_HOST_FORM = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Kind(Protocol):
    """Reads and shows the values of an option."""

    @property
    def metavar(self) -> str:
        """The placeholder of the value in help texts."""
        ...

    def expected(self) -> str:
        """Return a description of valid values, to follow the word "expected"."""
        ...

    def read(self, value: object) -> object:
        """Return the option's value for text or a typed value.

        Raise MismatchError, or UnavailableError for a value that only other servers support.
        """
        ...

    def show(self, value: object) -> str:
        """Return the value as TOML, which `read` accepts (except for a secret, which is hidden)."""
        ...


class MismatchError(ValueError):
    """A value is not valid for its option; the error's text follows the word "expected"."""


class UnavailableError(ValueError):
    """A value that another server supports and asgireload refuses; the error's text says what to do."""


def quote(text: str) -> str:
    """Return `text` as a TOML basic string (toml.io, section String)."""
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c
        for c in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'


class Text(Struct, frozen=True):
    """Any text without NUL; `noun` names it in errors."""

    metavar: str = "TEXT"
    noun: str = "text"

    def expected(self) -> str:
        return self.noun

    def read(self, value: object) -> str:
        if hasattr(value, "__fspath__"):
            value = value.__fspath__()
        if not isinstance(value, str) or "\0" in value:
            raise MismatchError(self.expected())
        return value

    def show(self, value: object) -> str:
        return quote(str(value))


class Secret(Struct, frozen=True):
    """Text that is never shown, neither by --print-config nor in an error."""

    metavar: str = "SECRET"

    def expected(self) -> str:
        return "text"

    def read(self, value: object) -> str:
        return Text().read(value)

    def show(self, value: object) -> str:
        return quote(HIDDEN)


class Integer(Struct, frozen=True):
    """An integer in a range, bounds included."""

    minimum: int | None = None
    maximum: int | None = None
    metavar: str = "INTEGER"

    def expected(self) -> str:
        if self.maximum is not None:
            return f"an integer from {self.minimum or 0} to {self.maximum}"
        return "an integer" if self.minimum is None else f"an integer ≥ {self.minimum}"

    def read(self, value: object) -> int:
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise MismatchError(self.expected()) from None
        if isinstance(value, bool) or not isinstance(value, int):
            raise MismatchError(self.expected())
        if self.minimum is not None and value < self.minimum:
            raise MismatchError(self.expected())
        if self.maximum is not None and value > self.maximum:
            raise MismatchError(self.expected())
        return value

    def show(self, value: object) -> str:
        return str(value)


class Duration(Struct, frozen=True):
    """Seconds as a float; text may carry a unit: `250ms`, `20`, `5m`, `12h`, `1d`."""

    positive: bool = False
    """Zero is refused."""
    metavar: str = "SECONDS"

    def expected(self) -> str:
        bound = "more than 0" if self.positive else "0 or more"
        return f"a duration of {bound}, in seconds or with a unit such as 250ms, 20s, 5m, 12h"

    def read(self, value: object) -> float:
        if isinstance(value, str):
            match = _DURATION_FORM.fullmatch(value.strip())
            if match is None:
                raise MismatchError(self.expected())
            seconds = float(match[1]) * _SECONDS[match[2]]
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise MismatchError(self.expected())
        else:
            seconds = float(value)
        # In this form the condition refuses NaN, too. No sensible duration is longer than a year.
        if not 0 <= seconds <= 366 * 86400 or (self.positive and seconds == 0):
            raise MismatchError(self.expected())
        return seconds

    def show(self, value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)


class Size(Struct, frozen=True):
    """Bytes as an int; text may carry a binary unit: `512M` is 512 * 2**20."""

    unit: int = 1
    """The bytes that a number without a unit counts: 1, or 2**20."""
    metavar: str = "SIZE"

    def expected(self) -> str:
        plain = "bytes" if self.unit == 1 else "MiB"
        return f"a size of more than 0, in {plain} or with a unit such as 512M or 2G"

    def read(self, value: object) -> int:
        if isinstance(value, str):
            match = _SIZE_FORM.fullmatch(value.strip())
            if match is None:
                raise MismatchError(self.expected())
            if match[2] is not None:
                scale = _BYTES[match[2].upper()]
            else:
                scale = 1 if value.strip()[-1] in "bB" else self.unit
            size = int(float(match[1]) * scale)
        elif isinstance(value, bool) or not isinstance(value, int):
            raise MismatchError(self.expected())
        else:
            size = value * self.unit
        if size <= 0:
            raise MismatchError(self.expected())
        return size

    def show(self, value: object) -> str:
        return str(value)


class Switch(Struct, frozen=True):
    """True or false; text may be the words that click accepts for a bool."""

    valued: bool = False
    """The flag takes a value (`--flag true`) instead of being a pair `--flag/--no-flag`."""
    metavar: str = "BOOLEAN"

    def expected(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else None
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise MismatchError(self.expected())

    def show(self, value: object) -> str:
        return "true" if value else "false"


class Choice(Struct, frozen=True):
    """One of a few words."""

    choices: tuple[str, ...]
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Other words, in lower case, and numbers that mean exactly the same as a choice."""
    substitutes: Mapping[str, str] = field(default_factory=dict)
    """Words of other servers that are replaced by a choice, with a notice to the user."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Words of other servers that are refused, with what to do instead."""

    @property
    def metavar(self) -> str:
        return f"[{'|'.join(self.choices)}]"

    def expected(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def read(self, value: object) -> str:
        word = _word(value)
        if word in self.refused:
            raise UnavailableError(self.refused[word])
        if word in self.spellings:
            return self.spellings[word]
        if word in self.substitutes:
            return self.substitutes[word]
        if word not in self.choices:
            raise MismatchError(self.expected())
        return word

    def show(self, value: object) -> str:
        return quote(str(value))


def _word(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # Constants of the ssl module may be given as numbers or as members of an enum.
        return str(int(value))
    return value.lower() if isinstance(value, str) else ""


class Header(Struct, frozen=True):
    """A response header, `Name: value` or a pair of strings."""

    metavar: str = "NAME:VALUE"

    def expected(self) -> str:
        return "a header 'Name: value' of visible characters (RFC 9110 section 5.5)"

    def read(self, value: object) -> tuple[str, str]:
        if isinstance(value, str):
            name, colon, content = value.partition(":")
            if not colon:
                raise MismatchError(self.expected())
        elif (
            isinstance(value, Sequence)
            and len(value) == 2
            and all(isinstance(part, str) for part in value)
        ):
            name, content = value
        else:
            raise MismatchError(self.expected())
        name, content = name.strip(), content.strip()
        # A header is sent as Latin-1; a line break in a value would end the header.
        is_sendable = all(c == "\t" or (" " <= c <= "\xff" and c != "\x7f") for c in content)
        if not _NAME_FORM.fullmatch(name) or not is_sendable:
            raise MismatchError(self.expected())
        return name, content

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return quote(f"{value[0]}: {value[1]}")


ANYBODY = "*"
UNIX_PEERS = "unix"
"""Words among networks: all peers, and peers on a Unix socket."""


class Network(Struct, frozen=True):
    """An IP address or network, `unix`, or `*`; the value is text in canonical form."""

    metavar: str = "NETWORKS"

    def expected(self) -> str:
        return f"an address, a network such as 10.0.0.0/8, {UNIX_PEERS}, or {ANYBODY} for all peers"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise MismatchError(self.expected())
        text = value.strip().lower()
        if text in (ANYBODY, UNIX_PEERS):
            return text
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise MismatchError(self.expected()) from None
        if meant.num_addresses == 1:
            return str(meant.network_address)
        if meant.network_address != ipaddress.ip_address(text.partition("/")[0]):
            # Host bits are set, so it is unclear whether the user meant one host or the whole network.
            raise MismatchError(f"{self.expected()}; the network with this address is {meant}")
        return str(meant)

    def show(self, value: object) -> str:
        return quote(str(value))


class HostPattern(Struct, frozen=True):
    """A host name or address as in a Host header, without a port, or `*.domain`, or `*`; in lower case."""

    metavar: str = "HOSTS"

    def expected(self) -> str:
        return f"a host without a port, *.domain for all below a domain, or {ANYBODY} for any"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise MismatchError(self.expected())
        text = value.strip().lower().removesuffix(".")
        if text == ANYBODY:
            return text
        try:
            if text.startswith("[") and text.endswith("]"):
                return f"[{ipaddress.IPv6Address(text[1:-1])}]"
            return f"[{ipaddress.IPv6Address(text)}]"
        except ValueError:
            pass
        if _HOST_FORM.fullmatch(text) is None:
            raise MismatchError(self.expected())
        return text

    def show(self, value: object) -> str:
        return quote(str(value))


class HeaderName(Struct, frozen=True):
    """The name of a header, in lowercase."""

    metavar: str = "NAME"

    def expected(self) -> str:
        return "the name of a header (RFC 9110 section 5.6.2), such as x-request-id"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _NAME_FORM.fullmatch(value):
            raise MismatchError(self.expected())
        return value.lower()

    def show(self, value: object) -> str:
        return quote(str(value))


class FileMode(Struct, frozen=True):
    """Permissions of a file in octal digits, as chmod(1) takes them; the value is text of four digits."""

    metavar: str = "MODE"

    def expected(self) -> str:
        return 'permissions in octal digits, from 000 to 0777, as text: "0660"'

    def read(self, value: object) -> str:
        # Only text: TOML reads the number 660 as decimal, which is another mode.
        if not isinstance(value, str) or not _MODE_FORM.fullmatch(value):
            raise MismatchError(self.expected())
        return f"{int(value, 8):04o}"

    def show(self, value: object) -> str:
        return quote(str(value))


class FileOwner(Struct, frozen=True):
    """The owner of a file as chown(1) takes it: `USER`, `USER:GROUP` or `:GROUP`, names or numbers."""

    metavar: str = "USER:GROUP"

    def expected(self) -> str:
        return "USER, USER:GROUP or :GROUP"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _OWNER_FORM.fullmatch(value):
            raise MismatchError(self.expected())
        return value

    def show(self, value: object) -> str:
        return quote(str(value))


class Several(Struct, frozen=True):
    """Any number of values of one kind: a repeated flag, a TOML array, or the split text of a variable."""

    item: Kind
    separator: str | None = None
    """Separates the items of a variable; None means white space and commas."""
    attached: re.Pattern[str] | None = None
    """Matches words that belong to the item before them, if `separator` is None."""
    always_splits: bool = False
    """Text of a flag or an array is split as well, as uvicorn does for some options."""

    @property
    def metavar(self) -> str:
        return self.item.metavar

    def expected(self) -> str:
        return f"a list, each item {self.item.expected()}"

    def split(self, text: str) -> list[str]:
        """Return the items in the text of a variable."""
        if self.separator is None:
            items: list[str] = []
            for part in text.split(","):
                for place, word in enumerate(part.split()):
                    if place and self.attached is not None and self.attached.fullmatch(word):
                        items[-1] += f" {word}"
                    else:
                        items.append(word)
            return items
        return [part for part in text.split(self.separator) if part.strip()]

    def read(self, value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            value = (value,)
        elif not isinstance(value, Sequence):
            raise MismatchError(self.expected())
        if self.always_splits:
            value = [
                part
                for item in value
                for part in (self.split(item) if isinstance(item, str) else (item,))
            ]
        return tuple(self.item.read(item) for item in value)

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return f"[{', '.join(self.item.show(item) for item in value)}]"


class Optional(Struct, frozen=True):
    """A value of another kind, or None, written as `none`."""

    item: Kind

    @property
    def metavar(self) -> str:
        return self.item.metavar

    def expected(self) -> str:
        return f"{self.item.expected()}, or {NONE}"

    def read(self, value: object) -> object:
        if value is None or (isinstance(value, str) and value.lower() == NONE):
            return None
        try:
            return self.item.read(value)
        except MismatchError:
            raise MismatchError(self.expected()) from None

    def show(self, value: object) -> str:
        return quote(NONE) if value is None else self.item.show(value)


def is_secret(kind: Kind) -> bool:
    """Return whether values of this kind are secret and must not be shown."""
    return isinstance(kind.item if isinstance(kind, Optional) else kind, Secret)
