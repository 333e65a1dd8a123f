"""Parse, check and format the addresses to listen on. Pure.

`listeners.py` opens the sockets.
"""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from asgireload.config import OPTIONS, Config
from asgireload.config.kinds import FileMode, FileOwner, Kind, MismatchError
from asgireload.errors import ConfigError

MAX_PATH_BYTES = 107
"""The longest path of a Unix socket; sun_path has 108 bytes with the final NUL (unix(7))."""
_FORMS = "expected HOST:PORT, [V6]:PORT, PORT, unix:PATH or fd://N"
_WORDS = (
    "the words understood are plain, tls, cert=FILE, key=FILE and proxy, and after unix:PATH mode=MODE and"
    " owner=USER:GROUP"
)
_OF_FILES: Mapping[str, Kind] = {"mode": FileMode(), "owner": FileOwner()}
"""Words about the file of a Unix socket."""


class ListenerTraits(msgspec.Struct, frozen=True):
    """How connections to an address are received. Sent to workers with the descriptors."""

    tls: bool = False
    certfile: str | None = None
    """The certificate file of this address, as configured; None for the server's certificate."""
    keyfile: str | None = None
    """None if the key is in `certfile`."""
    proxy: bool = False
    """Each connection begins with a PROXY header."""


PLAIN = ListenerTraits()


class TcpAddress(msgspec.Struct, frozen=True):
    host: str
    """A name, or an address without brackets."""
    port: int
    traits: ListenerTraits = PLAIN

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


class UnixAddress(msgspec.Struct, frozen=True):
    path: str
    traits: ListenerTraits = PLAIN
    mode: int | None = None
    """Permissions of the socket file; None: those of the file that is replaced, or the usual ones."""
    owner: str | None = None
    """The owner of the socket file, in the syntax of chown(1)."""

    def __str__(self) -> str:
        return f"unix:{self.path}"


class InheritedAddress(msgspec.Struct, frozen=True):
    """A listening socket, inherited as `descriptor`."""

    descriptor: int
    traits: ListenerTraits = PLAIN

    def __str__(self) -> str:
        return f"fd://{self.descriptor}"


Address = TcpAddress | UnixAddress | InheritedAddress


def parse_address(text: str, *, speaks_tls: bool = False, proxy: bool = False) -> Address:
    """Return the address of one --bind. Raise ConfigError, naming the accepted forms.

    A bare port listens on 127.0.0.1; an empty host, as in `:8000`, on every IPv4 address. Words may follow,
    separated by white space: `plain` or `tls` (the default is `speaks_tls`); `cert=FILE` and `key=FILE` for a
    certificate of this address; `proxy` (the default is `proxy`); `mode=` and `owner=` for the file of a Unix
    socket.
    """
    place, *words = text.split() or [""]
    address = _parse_place(place)
    said = _split_words(words, text)
    of_file = {name: said.pop(name) for name in _OF_FILES if name in said}
    traits = _traits_of(said, text, speaks_tls=speaks_tls, proxy=proxy)
    if not of_file:
        return msgspec.structs.replace(address, traits=traits)
    if not isinstance(address, UnixAddress):
        raise ConfigError(f"address '{text}': {min(of_file)} is for unix:PATH, which has a file")
    changes: dict[str, Any] = {}
    for name, value in of_file.items():
        try:
            read = str(_OF_FILES[name].read(value))
        except MismatchError as error:
            raise ConfigError(f"address '{text}': {name} expects {error}") from error
        changes[name] = _mode(read) if name == "mode" else read
    return msgspec.structs.replace(address, traits=traits, **changes)


def _parse_place(text: str) -> Address:
    if text.startswith("unix:"):
        # unix:///run/app.sock is the URL form of gunicorn's unix:/run/app.sock.
        return _unix(text.removeprefix("unix:").removeprefix("//"), text)
    if text.startswith("fd://"):
        digits = text.removeprefix("fd://")
        if not _is_number(digits):
            raise ConfigError(f"address '{text}': {_FORMS}")
        return InheritedAddress(int(digits))
    if _is_number(text):
        return TcpAddress("127.0.0.1", _port(text, text))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ConfigError(f"address '{text}': {_FORMS}")
    if host.startswith("[") and host.endswith("]"):
        return TcpAddress(host[1:-1], _port(port, text))
    if ":" in host:
        raise ConfigError(f"address '{text}': an IPv6 address needs brackets, as in [::1]:8000")
    if "/" in host:
        raise ConfigError(f"address '{text}': {_FORMS}")
    return TcpAddress(host or "0.0.0.0", _port(port, text))  # noqa: S104 - asked for


def _split_words(words: Sequence[str], text: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        is_known = (
            name in ("cert", "key", *_OF_FILES) if equals else name in ("plain", "tls", "proxy")
        )
        if not is_known or (equals and not value):
            raise ConfigError(f"address '{text}': '{word}' is not understood; {_WORDS}")
        if name in said:
            raise ConfigError(f"address '{text}': {name} is given twice")
        said[name] = value
    return said


def _traits_of(
    said: Mapping[str, str], text: str, *, speaks_tls: bool, proxy: bool
) -> ListenerTraits:
    if "plain" in said and said.keys() & {"tls", "cert", "key"}:
        raise ConfigError(f"address '{text}': plain is the opposite of tls, cert and key: give one")
    if "key" in said and "cert" not in said:
        raise ConfigError(
            f"address '{text}': key needs the certificate that goes with it: cert=FILE"
        )
    if "tls" in said and "cert" not in said and not speaks_tls:
        raise ConfigError(
            f"address '{text}': tls needs a certificate: give --ssl-certfile, or cert=FILE here"
        )
    return ListenerTraits(
        tls="cert" in said or (speaks_tls and "plain" not in said),
        certfile=said.get("cert"),
        keyfile=said.get("key"),
        proxy=proxy or "proxy" in said,
    )


def has_tls(config: Config) -> bool:
    """Return whether addresses use TLS by default."""
    return config.ssl_certfile is not None or config.ssl_context_factory is not None


def addresses_of(config: Config) -> tuple[Address, ...]:
    """Return the addresses to listen on: the binds, or else uds, fd, or host and port. Raise ConfigError."""
    speaks_tls = has_tls(config)
    if config.bind:
        addresses = tuple(
            _with_file(
                parse_address(text, speaks_tls=speaks_tls, proxy=config.proxy_protocol), config
            )
            for text in config.bind
        )
        places = [str(address) for address in addresses if not _is_any_port(address)]
        doubled = {place for place in places if places.count(place) > 1}
        if doubled:
            raise ConfigError(f"address '{min(doubled)}' is given twice")
        return addresses
    traits = ListenerTraits(tls=speaks_tls, proxy=config.proxy_protocol)
    if config.uds is not None:
        address = msgspec.structs.replace(_unix(config.uds, config.uds), traits=traits)
        return (_with_file(address, config),)
    if config.fd is not None:
        return (InheritedAddress(config.fd, traits),)
    host = config.host
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return (TcpAddress(host or "0.0.0.0", config.port, traits),)  # noqa: S104 - asked for


def _with_file(address: Address, config: Config) -> Address:
    """Return the address of a Unix socket with mode and owner from the options, unless it has its own."""
    if not isinstance(address, UnixAddress):
        return address
    return msgspec.structs.replace(
        address,
        mode=_mode(config.uds_mode) if address.mode is None else address.mode,
        owner=config.uds_owner if address.owner is None else address.owner,
    )


def _mode(digits: str | None) -> int | None:
    return None if digits is None else int(digits, 8)


def check_addresses(config: Config, places: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError unless the addresses are well formed and compatible with the other options.

    `places` maps each option to the place of its value, for errors; None: the option's name is used.
    """
    places = {name: name for name in OPTIONS} if places is None else places
    addresses = addresses_of(config)
    if config.accept == "per-slot" and not any(isinstance(a, TcpAddress) for a in addresses):
        raise ConfigError(
            f"{places['accept']} per-slot needs a TCP address of our own: Unix and inherited sockets can only be"
            f" shared; leave out {places['accept']}"
        )
    if config.ssl_context_factory is not None and any(
        address.traits.certfile is not None for address in addresses
    ):
        raise ConfigError(
            f"{places['ssl_context_factory']} makes one context for all addresses: leave out cert= of the"
            " binds, or the factory"
        )
    _check_overlaps(config, addresses)
    is_open_admin = config.admin_port is not None and not is_loopback(config.admin_host)
    if is_open_admin and config.admin_token_file is None:
        raise ConfigError(
            f"{places['admin_host']} {config.admin_host} can be reached from other machines: give admin_token_file"
            " too, so that not everybody can reload and stop the server"
        )


def _check_overlaps(config: Config, addresses: Sequence[Address]) -> None:
    """Raise ConfigError for two addresses that cannot be listened on together."""
    named: list[tuple[str, Address]] = [(f"address '{address}'", address) for address in addresses]
    if config.admin_port is not None:
        admin = TcpAddress(config.admin_host.strip("[]"), config.admin_port)
        named.append((f"admin_host and admin_port {admin}", admin))
    if config.admin_socket not in ("auto", "none"):
        named.append((f"admin_socket {config.admin_socket}", UnixAddress(config.admin_socket)))
    for index, (name, address) in enumerate(named):
        for other_name, other in named[:index]:
            if _overlap(address, other, addresses):
                raise ConfigError(f"{other_name} and {name} are the same place: give another one")


def _overlap(one: Address, other: Address, addresses: Sequence[Address]) -> bool:
    match one, other:
        case UnixAddress(), UnixAddress():
            return os.path.abspath(one.path) == os.path.abspath(other.path)
        case TcpAddress(), TcpAddress() if one.port == other.port != 0:
            first, second = _meant(one, addresses), _meant(other, addresses)
            if not first or not second:
                return one.host.lower() == other.host.lower()
            return any(_is_common(a, b) for a in first for b in second)
        case _:
            return False


_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _is_common(one: _IPAddress, other: _IPAddress) -> bool:
    if one.version != other.version:
        return False
    return one == other or one.is_unspecified or other.is_unspecified


def _meant(address: TcpAddress, addresses: Sequence[Address]) -> tuple[_IPAddress, ...]:
    """Return the addresses that a host means; none if the host is a name that needs a resolver."""
    if address.host.lower() == "localhost":
        return ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")
    try:
        known = ipaddress.ip_address(address.host)
    except ValueError:
        return ()
    answers_ipv4 = known.version == 6 and not (
        address in addresses and has_v4_twin(address, addresses)
    )
    if known.is_unspecified and answers_ipv4:
        return known, ipaddress.IPv4Address(0)
    return (known,)


def has_v4_twin(address: TcpAddress, addresses: Sequence[Address]) -> bool:
    """Return whether `addresses` contain an IPv4 address with the port of this IPv6 address.

    A socket on `::` also accepts IPv4 unless it is IPv6-only, so it would conflict with one on `0.0.0.0`.
    """
    return ":" in address.host and any(
        isinstance(other, TcpAddress) and ":" not in other.host and other.port == address.port
        for other in addresses
    )


def is_loopback(host: str) -> bool:
    """Return whether a host, as written in an option or a URL, can only mean this machine.

    Names other than `localhost` do not count as loopback, because their addresses can change.
    """
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def bracketed(host: str) -> str:
    """Return the host as written in a URL, an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def _unix(path: str, text: str) -> UnixAddress:
    if not path:
        raise ConfigError(f"address '{text}': a Unix socket needs a path")
    size = len(os.fsencode(os.path.abspath(path)))
    if size > MAX_PATH_BYTES:
        raise ConfigError(
            f"address '{text}': the path has {size} bytes, a Unix socket's may have {MAX_PATH_BYTES}"
        )
    return UnixAddress(path)


def _port(digits: str, text: str) -> int:
    if not _is_number(digits) or int(digits) > 65535:
        raise ConfigError(f"address '{text}': the port must be a number from 0 to 65535")
    return int(digits)


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit()


def _is_any_port(address: Address) -> bool:
    return isinstance(address, TcpAddress) and address.port == 0
