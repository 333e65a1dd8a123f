"""Rules between options: refuse combinations that cannot work, and warn of options without effect. Pure."""

from collections.abc import Mapping, Sequence

from asgireload.config.options import OPTIONS, Config
from asgireload.config.sources import Given, Layer, place_of, spelled_as
from asgireload.errors import ConfigError

GRACE_PERIOD = 30.0
"""Seconds that Kubernetes waits by default between SIGTERM and SIGKILL."""

_ADDRESS_FORMS = (("host", "port"), ("uds",), ("fd",), ("bind",))
"""Alternative sets of options for the addresses to listen on, one of which is used."""

_USELESS_WITHOUT = (
    ("reload_dir", "reload"),
    ("reload_include", "reload"),
    ("reload_exclude", "reload"),
    ("reload_delay", "reload"),
    ("reload_watcher", "reload"),
    ("reload_poll", "reload"),
    ("reload_hold_timeout", "reload"),
    ("drain_generations", "drain_overlap"),
    ("max_requests_jitter", "max_requests"),
    ("access_log_format", "access_log"),
    ("access_log_file", "access_log"),
    ("access_log_exclude", "access_log"),
    ("admin_host", "admin_port"),
    ("admin_token_file", "admin_port"),
    ("forwarded_allow_ips", "proxy_headers"),
    ("forwarded_headers", "proxy_headers"),
    ("forwarded_fields", "proxy_headers"),
)

_WITH_A_CERTIFICATE = ("ssl_keyfile", "ssl_sni")
"""Options that require --ssl-certfile."""
_PRIVATE_ADMIN_SOCKETS = ("auto", "none")
_OF_AN_ADMIN_SOCKET = ("admin_socket_mode", "admin_socket_owner")
_ONLY_X_FORWARDED = ("port", "prefix")
"""Forwarded fields that have no parameter in RFC 7239."""


def settle_addresses(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers, strongest first, with only one of the sets of address options (`_ADDRESS_FORMS`).

    The strongest layer that has an address option decides, so `--port` on the command line overrides a `uds` in a
    file. Raise ConfigError when one layer has options of two sets.
    """
    settled: list[Layer] = []
    chosen: tuple[str, ...] | None = None
    for layer in layers:
        forms = [form for form in _ADDRESS_FORMS if any(_is_said(layer, name) for name in form)]
        if len(forms) > 1:
            first, second = (
                next(layer.given[name].origin for name in form if name in layer.given)
                for form in forms[:2]
            )
            names = [next(name for name in form if name in layer.given) for form in forms[:2]]
            both = f"{first} and {second}" if first != second else f"{first} {' and '.join(names)}"
            raise ConfigError(
                f"{both} both say where to listen: give one, or repeat"
                f" {OPTIONS['bind'].flag} for several addresses"
            )
        if chosen is None and forms:
            chosen = forms[0]
        if chosen is not None:
            layer = _without(layer, chosen)
        settled.append(layer)
    return settled


def check_rules(config: Config, given: Mapping[str, Given]) -> list[str]:
    """Return warnings about a configuration; raise ConfigError if it cannot work.

    `given` has the values that the user has set, not defaults.
    """
    # A default that is too large is no error: a worker limits drain_grace to drain_timeout (`worker/settings.py`).
    if "drain_grace" in given and config.drain_grace > config.drain_timeout:
        raise ConfigError(
            f"drain_grace ({config.drain_grace:g} s, {_origin(given, 'drain_grace')}) must not exceed"
            f" drain_timeout ({config.drain_timeout:g} s, {_origin(given, 'drain_timeout')})"
        )
    if config.health_path is not None and not config.health_path.startswith("/"):
        raise ConfigError(
            f"{_place(given, 'health_path')} {config.health_path!r}: expected a path that starts with /"
        )
    _check_watcher(config, given)
    _check_tls(config, given)
    if config.factory and config.app.endswith("()"):
        raise ConfigError(
            f"{_place(given, 'app')} {config.app!r} is called already: leave out the (), or"
            f" {_beside(given, 'factory', 'factory')}"
        )
    warnings = [
        f"{_place(given, name)} has no effect without {_beside(given, name, needed)}"
        for name, needed in _USELESS_WITHOUT
        if name in given and _is_off(getattr(config, needed))
    ]
    if config.admin_socket in _PRIVATE_ADMIN_SOCKETS:
        warnings += [
            f"{given[name].origin}: {name} has no effect without admin_socket PATH: the place that is"
            " taken by itself is private"
            for name in _OF_AN_ADMIN_SOCKET
            if name in given
        ]
    if _origin(given, "ssl_keyfile_password").startswith("--"):
        warnings.append(
            "--ssl-keyfile-password can be read by every user of this machine, in the list of"
            " processes: give --ssl-keyfile-password-file"
        )
    if config.forwarded_headers == "forwarded":
        warnings += [
            f"{_place(given, 'forwarded_fields')} {field} has no effect: Forwarded (RFC 7239) has no such"
            " parameter"
            for field in _ONLY_X_FORWARDED
            if field in config.forwarded_fields
        ]
    longest = config.drain_timeout + config.lifespan_timeout + (config.exit_timeout or 0)
    if longest > GRACE_PERIOD:
        names = "drain_timeout and lifespan_timeout"
        if config.exit_timeout is not None:
            names = "drain_timeout, lifespan_timeout and exit_timeout"
        warnings.append(
            f"A stop may take {longest:g} s ({names}); Kubernetes kills"
            f" after {GRACE_PERIOD:g} s unless terminationGracePeriodSeconds is raised"
        )
    return warnings


def _check_watcher(config: Config, given: Mapping[str, Given]) -> None:
    """Raise ConfigError if reload_poll and reload_watcher contradict each other."""
    if config.reload_poll is None or config.reload_watcher == "auto":
        return
    if (config.reload_watcher == "polling") is not bool(config.reload_poll):
        raise ConfigError(
            f"{_origin(given, 'reload_poll')}: reload_poll {config.reload_poll:g} does not go with reload_watcher"
            f" {config.reload_watcher} ({_origin(given, 'reload_watcher')}): give one of them"
        )


def _check_tls(config: Config, given: Mapping[str, Given]) -> None:
    """Raise ConfigError for incompatible TLS options. The files are read later, at the start."""
    for name in _WITH_A_CERTIFICATE:
        if getattr(config, name) and config.ssl_certfile is None:
            raise ConfigError(
                f"{_place(given, name)} needs the certificate that goes with it: give"
                f" {_beside(given, name, 'ssl_certfile')}"
            )
    if config.ssl_keyfile_password is not None and config.ssl_keyfile_password_file is not None:
        raise ConfigError(
            f"{_place(given, 'ssl_keyfile_password')} and"
            f" {_place(given, 'ssl_keyfile_password_file')} both say the password of the keys: give one"
        )
    if (
        config.ssl_cert_reqs != "none"
        and config.ssl_ca_certs is None
        and config.ssl_context_factory is None
    ):
        raise ConfigError(
            f"{_place(given, 'ssl_cert_reqs')} {config.ssl_cert_reqs} needs"
            f" {_beside(given, 'ssl_cert_reqs', 'ssl_ca_certs')}, the authorities that client certificates"
            " are verified against"
        )


def _is_off(value: object) -> bool:
    # Not `not value`: port 0 is a port.
    return value is None or value is False


def _is_said(layer: Layer, name: str) -> bool:
    return name in layer.given and layer.given[name].value not in (None, ())


def _without(layer: Layer, chosen: tuple[str, ...]) -> Layer:
    """Return the layer without the address options that are not in `chosen`."""
    others = {name for form in _ADDRESS_FORMS if form != chosen for name in form}
    given = {name: value for name, value in layer.given.items() if name not in others}
    return Layer(given, layer.notices, layer.warnings)


def _origin(given: Mapping[str, Given], name: str) -> str:
    return given[name].origin if name in given else "default"


def _place(given: Mapping[str, Given], name: str) -> str:
    return place_of(given[name].origin, name) if name in given else name


def _beside(given: Mapping[str, Given], name: str, other: str) -> str:
    """Return the name of the option `other` in the spelling of the source that set `name`."""
    return spelled_as(given[name].origin, other) if name in given else other
