"""Trusted networks: what the entries mean, and which mistakes are named."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import ConfigError
from asgireload.net.networks import TrustedNetworks


@pytest.mark.parametrize(
    ("entries", "trusted", "strangers"),
    [
        ("127.0.0.1,::1", ["127.0.0.1", "::1", "::ffff:127.0.0.1"], ["127.0.0.2", "::2", None]),
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0", "::a00:1"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:DB8:0::5"], ["2001:db9::1", "1.2.3.4"]),
        ("fe80::/10", ["fe80::1%eth0"], ["fec0::1%eth0"]),
        ("::ffff:10.0.0.0/104", ["10.9.9.9", "::ffff:10.9.9.9"], ["11.0.0.1", "::a09:909"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"], ["192.0.2.8"]),
        ("0.0.0.0/0", ["9.9.9.9", "::ffff:9.9.9.9"], ["::9", None]),
        ("unix", [None], ["127.0.0.1"]),
        (" unix , 192.0.2.1 ,", [None, "192.0.2.1"], ["192.0.2.2"]),
        ("*", [None, "9.9.9.9", "::9", "no address"], []),
        ("", [], [None, "127.0.0.1", "", "no address"]),
    ],
)
def test_who_is_trusted(entries, trusted, strangers):
    networks = TrustedNetworks.parse(entries)

    def judge(host):
        return networks.is_trusted(None if host is None else (host, 4711))

    assert [judge(host) for host in trusted] == [True] * len(trusted)
    assert [judge(host) for host in strangers] == [False] * len(strangers)


def test_entries_may_come_one_by_one():
    assert TrustedNetworks.parse(["10.0.0.0/8", "::1"]) == TrustedNetworks.parse("10.0.0.0/8 ::1")


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("proxy.example", "expected an address"),
        ("10.0.0.1/8", "the network with this address is 10.0.0.0/8"),
        ("10.0.0.0/33", "expected an address"),
        ("10.0.0", "expected an address"),
        ("127.0.0.01", "expected an address"),
        ("::1]", "expected an address"),
        ("**", "or [*] for all peers"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entry, hint):
    with pytest.raises(ConfigError, match=hint) as caught:
        TrustedNetworks.parse(f"127.0.0.1,{entry}")
    assert repr(entry) in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_an_address_is_trusted_where_its_network_has_it(base, prefix, asked):
    network = ipaddress.ip_network(
        (int(base), min(prefix, base.max_prefixlen))
        if base.version == 4
        else (base.packed, min(prefix, base.max_prefixlen)),
        strict=False,
    )
    networks = TrustedNetworks.parse([str(network)])
    if getattr(asked, "ipv4_mapped", None) is None:
        expected = asked in network
        # An IPv6 network below ::ffff:0:0/96 means IPv4 addresses; one above it does not reach them.
        if network.version == 6 and network.subnet_of(ipaddress.ip_network("::ffff:0:0/96")):
            low = int(network.network_address) & 0xFFFFFFFF
            expected = asked in ipaddress.ip_network((low, network.prefixlen - 96))
        assert networks.is_trusted((str(asked), 1)) == expected
