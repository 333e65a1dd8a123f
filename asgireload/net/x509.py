"""Parse certificates: names, validity, and the subject as a string. Pure.

Python's ssl module returns these only for the verified certificate of a peer, but operators need them for the
server's own certificates, expired ones included. So this module reads a few fields from the DER encoding (X.690
sections 8 and 10; RFC 5280 section 4.1). It verifies nothing; OpenSSL does that.
"""

import base64
import binascii
import calendar
import ipaddress
import re
from collections.abc import Iterator, Sequence

import msgspec

from asgireload.errors import TlsError

_PEM = (
    rb"(?s)-----BEGIN (?P<label>(?:X509 |TRUSTED )?CERTIFICATE)-----(.+?)-----END (?P=label)-----"
)
_PEM_WIDTH = 64

_INTEGER = 0x02
_OCTET_STRING = 0x04
_OBJECT_IDENTIFIER = 0x06
_SEQUENCE = 0x30
_SET = 0x31
_VERSION = 0xA0
_EXTENSIONS = 0xA3
_DNS_NAME = 0x82
_IP_ADDRESS = 0x87
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")

_CHARACTER_SETS = {
    0x0C: "utf-8",
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as all implementations read it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}

_SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
_COMMON_NAME = "2.5.4.3"
_KEYWORDS = {
    # RFC 4514 section 3, which every implementation must know …
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    # … and descriptors of IANA's LDAP registry that certificates use.
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.4": "sn",
    "2.5.4.5": "serialNumber",
    "2.5.4.12": "title",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
}


class Certificate(msgspec.Struct, frozen=True):
    """The fields of a certificate that the server uses."""

    subject: str
    """The distinguished name in the form of RFC 4514; empty if the certificate has none."""
    names: tuple[str, ...]
    """The host names, in lowercase, and addresses of the certificate; its common names if it has no extension that
    lists them."""
    not_before: float
    """Seconds since the epoch, as `not_after`."""
    not_after: float


def find_certificates(text: bytes) -> list[bytes]:
    """Return the DER encodings of the certificates in a PEM file, in order; other blocks are skipped.

    Raise TlsError for a block that is not base64.
    """
    try:
        return [
            base64.b64decode(b"".join(match[2].split()), validate=True)
            for match in re.finditer(_PEM, text)
        ]
    except binascii.Error as error:
        raise TlsError(f"a certificate in it is damaged: {error}") from error


def to_pem(der: bytes) -> str:
    """Return a certificate as PEM (RFC 7468 section 5)."""
    body = base64.b64encode(der).decode("ascii")
    lines = [body[start : start + _PEM_WIDTH] for start in range(0, len(body), _PEM_WIDTH)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


def read_certificate(der: bytes) -> Certificate:
    """Parse a certificate from DER. Raise TlsError when `der` is not a certificate."""
    try:
        return _read_certificate(der)
    except (_MalformedError, ValueError) as error:
        raise TlsError(f"a certificate in it is damaged: {error}") from error


def _read_certificate(der: bytes) -> Certificate:
    # Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { … }, … }
    outer = _first(der, _SEQUENCE)
    fields = list(_elements(_first(outer, _SEQUENCE)))
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    tags = [field.tag for field in fields[:6]]
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
    if tags != [_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE]:
        raise _MalformedError("its fields are not those of a certificate")
    validity = [_time(element) for element in _elements(fields[3].content)]
    if len(validity) != 2:
        raise _MalformedError("it does not say how long it is valid")
    subject = _relative_names(fields[4].content)
    names = _alternative_names(fields[6:])
    if names is None:
        # RFC 9525 ignores common names, but old self-signed certificates have nothing else.
        names = tuple(
            text.lower()
            for rdn in subject
            for attribute in rdn
            if attribute.identifier == _COMMON_NAME and (text := attribute.text()) is not None
        )
    return Certificate(
        subject=",".join("+".join(map(str, rdn)) for rdn in reversed(subject)),
        names=names,
        not_before=validity[0],
        not_after=validity[1],
    )


# --- names ----------------------------------------------------------------------------------------


class _Attribute(msgspec.Struct, frozen=True):
    """One attribute of a distinguished name."""

    identifier: str
    value: "_Element"

    def text(self) -> str | None:
        """Return the value, or None if it is not a string."""
        charset = _CHARACTER_SETS.get(self.value.tag)
        if charset is None:
            return None
        try:
            return self.value.content.decode(charset)
        except UnicodeDecodeError:
            return None

    def __str__(self) -> str:
        text = self.text()
        keyword = _KEYWORDS.get(self.identifier)
        if keyword is None or text is None:
            # RFC 4514 section 2.4: a value whose type has no name, or without a string form, is shown as its
            # encoding in hexadecimal.
            return f"{keyword or self.identifier}=#{self.value.encoding.hex()}"
        return f"{keyword}={_escaped(text)}"


def _escaped(text: str) -> str:
    """Return an attribute's value escaped as in RFC 4514 section 2.4, with control characters in hexadecimal."""
    found: list[str] = []
    for place, char in enumerate(text):
        if char < " " or char == "\x7f":
            found.append(f"\\{ord(char):02x}")
        elif (
            char in '"+,;<>\\'
            or (char == "#" and place == 0)
            or (char == " " and place in (0, len(text) - 1))
        ):
            found.append(f"\\{char}")
        else:
            found.append(char)
    return "".join(found)


def _relative_names(content: bytes) -> list[list[_Attribute]]:
    """Return the relative distinguished names of a distinguished name, in the order of the encoding."""
    return [
        [_attribute(pair.content) for pair in _elements(_expect(rdn, _SET))]
        for rdn in _elements(content)
    ]


def _attribute(content: bytes) -> _Attribute:
    pair = list(_elements(content))
    if len(pair) != 2:
        raise _MalformedError("an attribute of its subject is no pair")
    return _Attribute(_identifier(_expect(pair[0], _OBJECT_IDENTIFIER)), pair[1])


def _alternative_names(rest: Sequence["_Element"]) -> tuple[str, ...] | None:
    """Return the host names and addresses of the subjectAltName extension; None without that extension."""
    for field in rest:
        if field.tag != _EXTENSIONS:
            continue
        for extension in _elements(_first(field.content, _SEQUENCE)):
            # Extension ::= SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OCTET STRING }
            parts = list(_elements(extension.content))
            if parts and _identifier(parts[0].content) == _SUBJECT_ALTERNATIVE_NAME:
                listed = _first(_expect(parts[-1], _OCTET_STRING), _SEQUENCE)
                return tuple(_general_names(listed))
    return None


def _general_names(content: bytes) -> Iterator[str]:
    for name in _elements(content):
        if name.tag == _DNS_NAME:
            yield name.content.decode("ascii").lower()
        elif name.tag == _IP_ADDRESS:
            yield str(ipaddress.ip_address(name.content))


def _identifier(content: bytes) -> str:
    """Return an object identifier in dots (X.690 section 8.19)."""
    numbers: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers or content[-1] & 0x80:
        raise _MalformedError("an object identifier in it is cut off")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _time(element: "_Element") -> float:
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:
        # RFC 5280 section 4.1.2.5.1: two digits mean 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif element.tag != _GENERALIZED_TIME:
        raise _MalformedError("a time in it is no time")
    match = _TIME.fullmatch(text)
    if match is None:
        raise _MalformedError(f"a time in it is {text!r}")
    return float(calendar.timegm(tuple(int(part) for part in match.groups())))


# --- DER ------------------------------------------------------------------------------------------


class _MalformedError(ValueError):
    """The bytes are not DER, or not a certificate."""


class _Element(msgspec.Struct, frozen=True):
    tag: int
    content: bytes
    encoding: bytes
    """Tag, length and content."""


def _elements(data: bytes) -> Iterator[_Element]:
    """Yield the consecutive elements in `data`."""
    start = 0
    while start < len(data):
        element = _element(data, start)
        yield element
        start += len(element.encoding)


def _element(data: bytes, start: int) -> _Element:
    header = data[start : start + 2]
    if len(header) < 2 or header[0] & 0x1F == 0x1F:
        raise _MalformedError("it is cut off, or uses tags that certificates do not have")
    place = start + 2
    size = header[1]
    if size & 0x80:
        width = size & 0x7F
        # Four bytes are more than any certificate needs; zero is the indefinite form, which DER forbids.
        if not 1 <= width <= 4 or place + width > len(data):
            raise _MalformedError("a length in it is not DER")
        size = int.from_bytes(data[place : place + width], "big")
        place += width
    if place + size > len(data):
        raise _MalformedError("it is cut off")
    return _Element(header[0], data[place : place + size], data[start : place + size])


def _first(data: bytes, tag: int) -> bytes:
    return _expect(_element(data, 0), tag)


def _expect(element: _Element, tag: int) -> bytes:
    if element.tag != tag:
        raise _MalformedError("it is not the encoding of a certificate")
    return element.content
