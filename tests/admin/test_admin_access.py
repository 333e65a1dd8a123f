"""Who may use the admin surface, as tables and as properties."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.admin.access import AccessPolicy, check_binding
from asgireload.admin.token_file import read_token_file
from asgireload.errors import ConfigError
from asgireload.net.addresses import is_loopback

LOOPBACK = AccessPolicy.for_tcp("127.0.0.1", None)
WITH_TOKEN = AccessPolicy.for_tcp("127.0.0.1", "s3cret-token")
OPEN = AccessPolicy.for_tcp("0.0.0.0", "s3cret-token")


def judge(
    policy: AccessPolicy, method: str = "GET", path: str = "/status", **headers: str | list[str]
) -> int | None:
    """Return the status of the refusal. An underscore in a header's name stands for a hyphen."""
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    refusal = policy.judge(method, path, pairs)
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("::ffff:10.0.0.5", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("127.1", False),
        ("host", False),
    ],
)
def test_loopback_is_what_can_only_mean_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_address_on_the_network_needs_a_token() -> None:
    """An admin port bound elsewhere than loopback without a token is refused before it opens."""
    for host in ("0.0.0.0", "::", "10.0.0.5", "", "web-1"):
        with pytest.raises(ConfigError, match="--admin-token-file"):
            check_binding(host, None)
        with pytest.raises(ConfigError):
            AccessPolicy.for_tcp(host, None)
        check_binding(host, "s3cret-token")
    check_binding("127.0.0.1", None)


def test_a_unix_socket_gives_full_rights() -> None:
    policy = AccessPolicy.for_unix()
    assert judge(policy, "POST", "/stop") is None
    assert judge(policy, "POST", "/stop", host="anything", origin="null") is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9000", None),
        ("127.0.0.1", None),
        ("localhost:9000", None),
        ("LOCALHOST", None),
        ("[::1]:9000", None),
        ("evil.example", 403),
        ("evil.example:9000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("0.0.0.0:9000", 403),
        ("10.0.0.5", 403),
        ("localhost:9000:9000", 403),
        ("localhost@evil.example", 403),
        ("::1", 403),
        ("localhost:", 403),
        ("", 403),
        ([], 403),
        (["localhost", "localhost"], 403),
        (["localhost", "evil.example"], 403),
    ],
)
def test_a_loopback_listener_is_reached_by_a_loopback_name(
    host: str | list[str], status: int | None
) -> None:
    """A page whose name was pointed at this machine still sends its own name."""
    assert judge(LOOPBACK, host=host) == status
    assert judge(LOOPBACK, path="/live", host=host) == status


def test_a_listener_on_the_network_has_names_of_its_own() -> None:
    """There the token, which no foreign page has, is what counts."""
    token = "Bearer s3cret-token"
    for host in ("10.0.0.5:9000", "shop-admin.internal", "0.0.0.0"):
        assert judge(OPEN, host=host, authorization=token) is None
        assert judge(OPEN, host=host) == 401
        assert judge(OPEN, path="/ready", host=host) is None


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ([], None),
        ("http://localhost:9000", None),
        ("https://localhost:9000", None),
        ("HTTP://LOCALHOST:9000", None),
        ("http://localhost", 403),
        ("http://localhost:9001", 403),
        ("http://127.0.0.1:9000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://localhost:9000", 403),
        (["http://localhost:9000", "http://evil.example"], 403),
    ],
)
def test_a_page_may_talk_only_to_the_listener_it_came_from(
    origin: str | list[str], status: int | None
) -> None:
    for method in ("GET", "POST"):
        assert judge(LOOPBACK, method, host="localhost:9000", origin=origin) == status


@pytest.mark.parametrize(
    ("site", "status"),
    [
        ([], None),
        ("none", None),
        ("same-origin", None),
        ("same-site", 403),
        ("cross-site", 403),
        ("something-new", 403),
        (["same-origin", "cross-site"], 403),
    ],
)
def test_a_command_from_another_site_is_refused(site: str | list[str], status: int | None) -> None:
    headers: dict[str, str | list[str]] = {"host": "localhost", "sec_fetch_site": site}
    assert judge(LOOPBACK, "POST", "/reload", **headers) == status
    assert judge(LOOPBACK, "GET", "/", **headers) is None


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cret-token", None),
        ("bearer   s3cret-token ", None),
        ([], 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer s3cret-toke", 401),
        ("Bearer s3cret-tokens", 401),
        ("Bearer S3CRET-TOKEN", 401),
        ("Basic s3cret-token", 401),
        ("s3cret-token", 401),
        ("Bearer s3cret-tok\u00e9n", 401),
        (["Bearer s3cret-token", "Bearer s3cret-token"], 401),
    ],
)
def test_a_configured_token_is_required(authorization: str | list[str], status: int | None) -> None:
    for method, path in (
        ("GET", "/status"),
        ("POST", "/stop"),
        ("GET", "/nowhere"),
        ("GET", "/live/"),
    ):
        answer = judge(WITH_TOKEN, method, path, host="localhost", authorization=authorization)
        assert answer == status


def test_probes_need_no_token() -> None:
    for path in ("/live", "/ready"):
        assert judge(WITH_TOKEN, path=path, host="localhost") is None


def test_a_refusal_says_how_to_authenticate() -> None:
    refusal = WITH_TOKEN.judge("GET", "/status", [(b"host", b"localhost")])
    assert refusal is not None
    assert refusal.headers == ((b"www-authenticate", b'Bearer realm="asgireload"'),)
    wrong = [(b"host", b"localhost"), (b"authorization", b"Bearer wrong")]
    refusal = WITH_TOKEN.judge("GET", "/status", wrong)
    assert refusal is not None
    assert b"invalid_token" in refusal.headers[0][1]
    assert "wrong" not in refusal.detail


@given(st.binary(max_size=60))
def test_no_other_host_header_gets_through(host: bytes) -> None:
    refusal = LOOPBACK.judge("GET", "/live", [(b"host", host)])
    name = host.decode("latin-1").strip().lower()
    if not name.startswith(("127.", "localhost", "[")):
        assert refusal is not None


@given(
    st.text(st.characters(min_codepoint=0x61, max_codepoint=0x7A), min_size=1),
    st.integers(0, 65535),
)
def test_no_name_but_localhost_means_loopback(name: str, port: int) -> None:
    refusal = LOOPBACK.judge("GET", "/", [(b"host", f"{name}:{port}".encode())])
    assert (refusal is None) == (name == "localhost")


@given(st.binary(max_size=40), st.sampled_from([b"Bearer ", b"bearer ", b"", b"Basic "]))
def test_no_other_credentials_get_through(credentials: bytes, scheme: bytes) -> None:
    value = scheme + credentials
    refusal = WITH_TOKEN.judge("GET", "/", [(b"host", b"localhost"), (b"authorization", value)])
    is_genuine = scheme.lower() == b"bearer " and credentials.strip() == b"s3cret-token"
    if not is_genuine:
        assert refusal is not None


@given(
    st.sampled_from([LOOPBACK, WITH_TOKEN, OPEN]),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"authorization", b"x"]),
            st.binary(max_size=30),
        ),
        max_size=5,
    ),
)
def test_judging_never_fails(
    policy: AccessPolicy, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    refusal = policy.judge(method, "/status", headers)
    assert refusal is None or refusal.status in {401, 403}


class TestTokenFile:
    def write(self, tmp_path: Path, content: bytes, mode: int = 0o600) -> str:
        path = tmp_path / "token"
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def test_the_token_is_read_without_white_space(self, tmp_path: Path) -> None:
        assert read_token_file(self.write(tmp_path, b"  s3cret\n")) == "s3cret"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
    def test_a_file_others_can_use_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = self.write(tmp_path, b"s3cret", mode)
        with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
            read_token_file(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b" \n\t", "is empty"),
            (b"two words", "printable ASCII"),
            (b"one\ntwo", "printable ASCII"),
            (b"caf\xc3\xa9", "printable ASCII"),
            (b"x" * 5000, "more than 4096"),
        ],
    )
    def test_what_no_header_can_carry_is_refused(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            read_token_file(self.write(tmp_path, content))

    def test_a_missing_or_odd_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            read_token_file(str(tmp_path / "none"))
        with pytest.raises(ConfigError, match="not a regular file"):
            read_token_file(str(tmp_path))
        os.mkfifo(tmp_path / "pipe", 0o600)
        with pytest.raises(ConfigError, match="not a regular file"):
            read_token_file(str(tmp_path / "pipe"))
