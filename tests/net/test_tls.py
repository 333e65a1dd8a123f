"""Files, material and contexts: what fits is used, what does not is named."""

import os
import ssl

import pytest

from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.net.tls import (
    FILE_LIMIT,
    Pair,
    TlsFiles,
    certificates_in,
    check_material,
    choose_by_name,
    files_of,
    find_doubts,
    make_context,
    read_material,
    seal,
    settings_of,
    unseal,
)
from asgireload.net.x509 import Certificate
from tests.certificates import AUTHORITY, LONG_AGO, Authority


def load(directory, **options):
    """Read and check what a configuration names; return the material."""
    config = Config(**options)
    material = read_material(files_of(config), str(directory), config.ssl_keyfile_password)
    check_material(material, settings_of(config))
    return material


def test_files_are_those_of_the_server_and_of_its_addresses():
    config = Config(
        bind=(
            "127.0.0.1:1",
            "127.0.0.1:2 plain",
            "127.0.0.1:3 cert=c.pem",
            "127.0.0.1:4 cert=c.pem",
        ),
        ssl_certfile="a.pem",
        ssl_keyfile="a.key",
        ssl_sni=("b.pem:b.key", "d.pem"),
        ssl_ca_certs="ca.pem",
        ssl_keyfile_password_file="password",
    )
    files = files_of(config)
    assert files.main == (Pair("a.pem", "a.key"), Pair("b.pem", "b.key"), Pair("d.pem"))
    assert files.own == (Pair("c.pem"),)
    paths = ("a.pem", "a.key", "b.pem", "b.key", "d.pem", "c.pem", "ca.pem", "password")
    assert files.paths() == paths


def test_nothing_is_read_where_no_address_speaks_tls():
    assert files_of(Config()) == TlsFiles()
    assert files_of(Config(bind=("1 plain",), ssl_certfile="a.pem")) == TlsFiles()


def test_relative_names_start_at_the_given_directory(tmp_path):
    AUTHORITY.issue(tmp_path, "a", together=True)
    assert load(tmp_path, ssl_certfile="a.pem").main[0].files == Pair("a.pem")


def test_an_encrypted_key_is_opened_by_a_password_or_a_file_with_it(tmp_path):
    files = AUTHORITY.issue(tmp_path, "a", password="geheim ")
    pair = {"ssl_certfile": str(files.certfile), "ssl_keyfile": str(files.keyfile)}
    load(tmp_path, **pair, ssl_keyfile_password="geheim ")
    (tmp_path / "password").write_bytes(b"geheim \r\n")
    load(tmp_path, **pair, ssl_keyfile_password_file="password")


@pytest.fixture
def files(tmp_path):
    """A directory with good and bad files."""
    AUTHORITY.issue(tmp_path, "good")
    AUTHORITY.issue(tmp_path, "other")
    AUTHORITY.issue(tmp_path, "encrypted", password="right")
    (tmp_path / "junk").write_bytes(b"junk")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(b"x" * (FILE_LIMIT + 1))
    (tmp_path / "damaged.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    )
    (tmp_path / "damaged.key").write_text(
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
    )
    (tmp_path / "latin").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ssl_certfile": "none.pem"}, "certificate none.pem: no such file.*; check the path"),
        ({"ssl_certfile": "."}, "certificate .: is a directory; name a file in it"),
        ({"ssl_certfile": "junk"}, "certificate junk: there is no certificate in it"),
        ({"ssl_certfile": "pipe"}, "certificate pipe: there is no certificate in it"),
        ({"ssl_certfile": "large"}, "certificate large: it is no PEM file"),
        ({"ssl_certfile": "damaged.pem"}, "certificate damaged.pem: .* damaged"),
        (
            {"ssl_certfile": "good.pem"},
            "private key good.pem: .*no private key in it; give ssl_keyfile",
        ),
        ({"ssl_keyfile": "none.key"}, "private key none.key: no such file"),
        ({"ssl_keyfile": "empty"}, "private key empty: there is no private key in it"),
        ({"ssl_keyfile": "damaged.key"}, "private key damaged.key: OpenSSL cannot use"),
        ({"ssl_keyfile": "other.key"}, "private key other.key: it does not belong to .* good.pem"),
        (
            {"ssl_keyfile": "encrypted.key"},
            "encrypted.key: it is encrypted; give ssl_keyfile_password",
        ),
        (
            {"ssl_keyfile": "encrypted.key", "ssl_keyfile_password": "wrong"},
            "private key encrypted.key: the password does not open it",
        ),
        (
            {"ssl_keyfile": "encrypted.key", "ssl_keyfile_password": "x" * 5000},
            "private key encrypted.key: the password does not open it",
        ),
        ({"ssl_keyfile_password_file": "latin"}, "password file latin: it is not UTF-8"),
        ({"ssl_keyfile_password_file": "none"}, "password file none: no such file"),
        ({"ssl_ca_certs": "none.pem"}, "ssl_ca_certs none.pem: no such file"),
        ({"ssl_ca_certs": "junk"}, "ssl_ca_certs junk: there is no certificate in it"),
        ({"ssl_ca_certs": "damaged.pem"}, "ssl_ca_certs damaged.pem: OpenSSL cannot use it"),
        ({"ssl_ciphers": "bogus"}, "ssl_ciphers 'bogus': OpenSSL knows no cipher"),
        ({"ssl_sni": ("other.pem:good.key",)}, "good.key: it does not belong to .* other.pem"),
        (
            {"bind": ("1 cert=other.pem key=good.key",)},
            "good.key: it does not belong to .* other.pem",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_reason(files, options, error):
    with pytest.raises(TlsError, match=error) as raised:
        load(files, **{"ssl_certfile": "good.pem", **keyfile(options), **options})
    assert "wrong" not in str(raised.value)


def keyfile(options):
    """Return the good key, unless the certificate is what a case is about."""
    is_bad = options.get("ssl_certfile") in ("good.pem", "junk", "pipe", "damaged.pem", ".")
    return {} if is_bad else {"ssl_keyfile": "good.key"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(files):
    (files / "good.key").chmod(0)
    with pytest.raises(TlsError, match=r"good.key: permission denied; let the user of the server"):
        load(files, ssl_certfile="good.pem", ssl_keyfile="good.key")


def test_material_comes_out_of_shared_memory_as_often_as_it_is_asked_for(files):
    material = load(
        files, ssl_certfile="good.pem", ssl_keyfile="good.key", ssl_keyfile_password="s"
    )
    descriptor = seal(material)
    try:
        assert unseal(descriptor) == unseal(descriptor) == material
    finally:
        os.close(descriptor)


def test_keys_and_passwords_do_not_show(files):
    material = load(
        files, ssl_certfile="good.pem", ssl_keyfile="good.key", ssl_keyfile_password="s3"
    )
    assert "PRIVATE" not in repr(material) + repr(material.main)
    assert "s3" not in repr(material)


def test_an_expired_certificate_is_used_and_doubted(tmp_path):
    AUTHORITY.issue(tmp_path, "old", together=True, not_before=LONG_AGO, not_after=LONG_AGO)
    ((_, certificate),) = certificates_in(load(tmp_path, ssl_certfile="old.pem"))
    assert "expired" in find_doubts(certificate, LONG_AGO.timestamp() + 1)
    assert find_doubts(certificate, LONG_AGO.timestamp()) is None
    assert "not valid yet" in find_doubts(certificate, LONG_AGO.timestamp() - 1)


TABLE = {"a.example": 1, "*.example": 2, "*.b.example": 3}


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("a.example", 1),
        ("A.Example.", 1),
        ("c.example", 2),
        ("d.b.example", 3),
        ("b.example", 2),
        ("x.d.b.example", None),
        ("example", None),
        ("", None),
        (None, None),
    ],
)
def test_a_wildcard_stands_for_one_label(name, chosen):
    assert choose_by_name(TABLE, name) == chosen


def shake_hands(server, client, name="localhost"):
    """Let two contexts talk in memory; return both ends when they agree. Raise ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ends


def context_of(directory, **options):
    material = load(directory, **options)
    return make_context(material.main, material, settings_of(Config(**options)))


def test_http11_is_agreed_on(tmp_path):
    AUTHORITY.issue(tmp_path, "a", together=True)
    client = AUTHORITY.client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    ends = shake_hands(context_of(tmp_path, ssl_certfile="a.pem"), client)
    assert [end.selected_alpn_protocol() for end in ends] == ["http/1.1"] * 2
    assert [end.version() for end in ends] == ["TLSv1.3"] * 2


@pytest.mark.parametrize(
    ("least", "most", "agreed"),
    [
        ("tls1.2", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("tls1.3", ssl.TLSVersion.TLSv1_2, None),
        ("tls1.3", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
def test_nothing_below_the_lowest_version_is_spoken(tmp_path, least, most, agreed):
    AUTHORITY.issue(tmp_path, "a", together=True)
    client = AUTHORITY.client_context()
    client.maximum_version = most
    server = context_of(tmp_path, ssl_certfile="a.pem", ssl_version=least)
    if agreed is None:
        with pytest.raises(ssl.SSLError, match=r"(?i)version|unsupported"):
            shake_hands(server, client)
    else:
        assert shake_hands(server, client)[1].version() == agreed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_11_is_refused(tmp_path):
    AUTHORITY.issue(tmp_path, "a", together=True)
    client = AUTHORITY.client_context()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)version|unsupported"):
        shake_hands(context_of(tmp_path, ssl_certfile="a.pem"), client)


def test_the_certificate_is_chosen_by_the_name_that_is_asked_for(tmp_path):
    AUTHORITY.issue(tmp_path, "a", "a.example", together=True)
    AUTHORITY.issue(tmp_path, "b", "b.example", "*.c.example")
    server = context_of(tmp_path, ssl_certfile="a.pem", ssl_sni=("b.pem:b.key",))
    client = AUTHORITY.client_context()
    for name, listed in (
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("x.c.example", "b.example"),
    ):
        ends = shake_hands(server, client, name)
        assert ("DNS", listed) in ends[0].getpeercert()["subjectAltName"]
        assert ends[1].context.certificate == ssl.DER_cert_to_PEM_cert(ends[0].getpeercert(True))
    client.check_hostname = False
    for name in ("unknown.example", None):
        assert shake_hands(server, client, name)[1].context is server


@pytest.mark.parametrize("wish", ["optional", "required"])
def test_client_certificates_are_verified(tmp_path, wish):
    AUTHORITY.issue(tmp_path, "a", together=True)
    AUTHORITY.write(tmp_path)
    server = context_of(
        tmp_path,
        ssl_certfile="a.pem",
        ssl_cert_reqs=wish,
        ssl_ca_certs="ca.pem",
        ssl_version="tls1.2",
    )
    known = AUTHORITY.issue(tmp_path, "client", "client.example")
    ends = shake_hands(server, AUTHORITY.client_context(known))
    assert ends[1].getpeercert()["subjectAltName"] == (("DNS", "client.example"),)
    stranger = Authority().issue(tmp_path, "stranger", "client.example")
    with pytest.raises(ssl.SSLError):
        shake_hands(server, AUTHORITY.client_context(stranger))
    if wish == "required":
        with pytest.raises(ssl.SSLError):
            shake_hands(server, AUTHORITY.client_context())
    else:
        assert shake_hands(server, AUTHORITY.client_context())[1].getpeercert() is None


def test_doubts_need_a_clock_only():
    certificate = Certificate("CN=a", ("a",), 10.0, 20.0)
    assert [find_doubts(certificate, now) is None for now in (9, 10, 20, 21)] == [
        False, True, True, False,
    ]  # fmt: skip
