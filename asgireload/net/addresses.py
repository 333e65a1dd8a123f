"""Addresses to listen on: how they are written, and how they are shown. Pure.

HOST:PORT   [V6]:PORT   HOST   :PORT   unix:PATH   fd://NUMBER
"""

from dataclasses import dataclass

from asgireload.config import Config
from asgireload.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    descriptor: int


Address = TcpAddress | UnixAddress | InheritedSocket


def parse_address(text: str, default_port: int) -> Address:
    """Return the address that `text` means. Raise ConfigError with what is wrong about it."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ConfigError(f"{text!r}: a path must follow unix:")
        return UnixAddress(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not number.isdecimal():
            raise ConfigError(f"{text!r}: the number of a descriptor must follow fd://")
        return InheritedSocket(int(number))
    return _parse_tcp(text, default_port)


def _parse_tcp(text: str, default_port: int) -> TcpAddress:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{text!r}: an IPv6 address is written [ADDRESS]:PORT")
        port = rest[1:]
    elif text.count(":") > 1:
        raise ConfigError(f"{text!r}: an IPv6 address is written in brackets, [ADDRESS]:PORT")
    else:
        host, _, port = text.partition(":")
    if not port:
        return TcpAddress(host, default_port)
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{text!r}: {port!r} is not a port from 0 to 65535")
    return TcpAddress(host, int(port))


def addresses_of(config: Config) -> list[Address]:
    """Return every address that the configuration asks for; `--bind` stands beside nothing else."""
    if config.bind:
        return [parse_address(text, config.port) for text in config.bind]
    if config.fd is not None:
        return [InheritedSocket(config.fd)]
    if config.uds is not None:
        return [UnixAddress(config.uds)]
    return [TcpAddress(config.host, config.port)]


def url_of(address: Address, name: object) -> str:
    """Return what to print for a listening socket whose `getsockname()` is `name`."""
    if isinstance(name, tuple):
        # What the user wrote says more than what it was resolved to.
        host = address.host if isinstance(address, TcpAddress) and address.host else str(name[0])
        if ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{name[1]}"
    if isinstance(name, bytes):
        name = name.decode(errors="backslashreplace").replace("\0", "@")
    return f"unix:{name}"
