"""Certificates are read as a library that does nothing else reads them; anything else is refused."""

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import TlsError
from asgireload.net.x509 import find_certificates, read_certificate, to_pem

KEY = ec.generate_private_key(ec.SECP256R1())
START = dt.datetime(2024, 2, 29, 12, 30, 45, tzinfo=dt.UTC)


def certificate(subject, names=(), not_after=None, is_critical=False):
    """Return a self-signed certificate as DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(not_after or START + dt.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=is_critical)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def name(**attributes):
    return x509.Name(
        [
            x509.NameAttribute(getattr(NameOID, key.upper()), value)
            for key, value in attributes.items()
        ]
    )


@pytest.mark.parametrize("is_critical", [True, False])
def test_names_and_addresses_are_those_that_the_certificate_lists(is_critical):
    listed = [
        x509.DNSName("Shop.Example"),
        x509.DNSName("*.shop.example"),
        x509.RFC822Name("a@shop.example"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    read = read_certificate(certificate(name(common_name="cn.example"), listed, None, is_critical))
    assert read.names == ("shop.example", "*.shop.example", "10.0.0.1", "::1")


def test_the_common_name_counts_only_where_no_names_are_listed():
    assert read_certificate(certificate(name(common_name="Old.Example"))).names == ("old.example",)
    assert read_certificate(certificate(x509.Name([]))).names == ()


@pytest.mark.parametrize("year", [2025, 2049, 2050, 9999])
def test_times_of_both_forms_are_read(year):
    end = dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    read = read_certificate(certificate(name(common_name="a"), not_after=end))
    assert (read.not_before, read.not_after) == (START.timestamp(), end.timestamp())


def test_a_subject_is_written_backwards_with_its_rdns_joined():
    subject = x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")]),
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "alice"),
                    x509.NameAttribute(NameOID.USER_ID, "7"),
                ]
            ),
        ]
    )
    # The parts of one RDN are a set, in the order of the encoding.
    assert read_certificate(certificate(subject)).subject in (
        "UID=7+CN=alice,C=DE",
        "CN=alice+UID=7,C=DE",
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Müller, Söhne", "CN=Müller\\, Söhne"),
        (' "a"+b;<c>\\ ', 'CN=\\ \\"a\\"\\+b\\;\\<c\\>\\\\\\ '),
        ("#1", "CN=\\#1"),
        ("1#", "CN=1#"),
        ("a=b", "CN=a=b"),
        ("a\x00b\n", "CN=a\\00b\\0a"),
        (" ", "CN=\\ "),
    ],
)
def test_special_characters_of_a_subject_are_escaped(value, shown):
    assert read_certificate(certificate(name(common_name=value))).subject == shown


def test_attributes_without_a_name_are_shown_by_their_encoding():
    unknown = x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "ab", _ASN1Type.UTF8String)
    mail = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.example")
    subject = read_certificate(certificate(x509.Name([mail, unknown]))).subject
    assert subject == "1.2.3.4=#0c026162,emailAddress=a@b.example"


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=16)


@given(text, text)
def test_any_subject_reads_back_as_the_library_reads_it(common_name, organization):
    subject = name(organization_name=organization, common_name=common_name)
    shown = read_certificate(certificate(subject)).subject
    assert x509.Name.from_rfc4514_string(shown) == subject


def test_pem_is_found_among_other_things_and_written_as_it_was():
    der = certificate(name(common_name="a"))
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    assert to_pem(der).encode() == pem
    key = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert find_certificates(b"some words\n" + key + pem + pem.replace(b"\n", b"\r\n")) == [
        der,
        der,
    ]
    assert find_certificates(key) == []


def test_a_block_that_is_not_base64_is_refused():
    with pytest.raises(TlsError, match="damaged"):
        find_certificates(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_refused(data):
    try:
        read_certificate(data)
    except TlsError:
        pass


GOOD = certificate(name(common_name="a", organization_name="b"), [x509.DNSName("a.example")])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.booleans())
def test_a_damaged_certificate_is_read_or_refused(place, byte, is_cut):
    damaged = GOOD[:place] if is_cut else GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        read_certificate(damaged)
    except TlsError:
        pass
    else:
        assert not is_cut


@given(st.binary(max_size=200))
def test_any_text_is_searched_for_pem(data):
    try:
        find_certificates(b"-----BEGIN CERTIFICATE-----" + data + b"-----END CERTIFICATE-----")
    except TlsError:
        pass
