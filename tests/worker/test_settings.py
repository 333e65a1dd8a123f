"""The slice of the configuration that connections get."""

from asgireload.config import Config
from asgireload.net.networks import TrustedNetworks
from asgireload.worker.settings import connections_for_files, http_settings

FILES = 20_000


def test_proxies_are_believed_as_the_configuration_says():
    settings = http_settings(
        Config(forwarded_allow_ips=("10.0.0.0/8",), forwarded_fields=("for", "host")), FILES
    )
    assert settings.forwarding is not None
    assert settings.forwarding.networks == TrustedNetworks.parse("10.0.0.0/8")
    assert settings.forwarding.fields == {"for", "host"}
    assert http_settings(Config(proxy_headers=False), FILES).forwarding is None


def test_hosts_are_judged_only_where_some_are_named():
    assert http_settings(Config(), FILES).host_rules is None
    rules = http_settings(Config(allowed_hosts=("shop.example",)), FILES).host_rules
    assert rules is not None
    assert rules.allows(b"shop.example")
    assert not rules.allows(b"other.example")


def test_connections_are_bounded_by_the_files_that_may_be_open():
    assert (
        http_settings(Config(), FILES).limit_connections == connections_for_files(FILES) == 17_500
    )
    assert connections_for_files(256) == 192
    assert connections_for_files(10) == 1
    assert http_settings(Config(limit_connections=7), FILES).limit_connections == 7
