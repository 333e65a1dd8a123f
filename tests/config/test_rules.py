import pytest

from asgireload.config import OPTIONS, config_from_keywords, render_config
from asgireload.errors import ConfigError

from .test_sources import flag, load, write


def test_the_strongest_source_decides_where_to_listen(tmp_path):
    write(tmp_path, "asgireload.toml", "uds = '/run/app.sock'")
    config = load([flag("port", "9000")], {"ASGIRELOAD_HOST": "::1"}, tmp_path).config
    assert (config.host, config.port, config.uds) == ("::1", 9000, None)
    config = load([], {"ASGIRELOAD_WORKERS": "2"}, tmp_path).config
    assert config.uds == "/run/app.sock"


@pytest.mark.parametrize(
    "flags",
    [
        [flag("uds", "/x"), flag("host", "::1")],
        [flag("fd", "3"), flag("bind", ["127.0.0.1:1"])],
        [flag("bind", ["127.0.0.1:1"]), flag("port", "1")],
    ],
)
def test_one_source_that_says_two_ways_to_listen_is_refused(flags):
    with pytest.raises(ConfigError) as caught:
        load(flags)
    assert all(given.flag in str(caught.value) for given in flags)


def test_a_grace_longer_than_the_drain_is_refused_with_both_origins():
    with pytest.raises(
        ConfigError, match=r"drain_grace \(2 s, --drain-grace\).*\(1 s, --drain-timeout\)"
    ):
        load([flag("drain_timeout", "1"), flag("drain_grace", "2")])
    load([flag("drain_timeout", "1")])


def test_a_health_path_must_be_absolute():
    with pytest.raises(ConfigError, match="starts with /"):
        load([flag("health_path", "health")])


def test_a_factory_that_is_called_already_is_refused():
    with pytest.raises(ConfigError, match="called already"):
        load([flag("app", "main:create()"), flag("factory", True)])


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("reload_dir", ("src",)),
        ("reload_watcher", "polling"),
        ("max_requests_jitter", "5"),
        ("admin_token_file", "t"),
    ],
)
def test_options_without_effect_are_pointed_out(name, raw):
    (warning,) = load([flag(name, raw)]).warnings
    assert "has no effect" in warning


def test_options_of_an_access_log_that_is_off_are_pointed_out():
    flags = [flag("access_log", False), flag("access_log_file", "a.log")]
    (warning,) = load(flags).warnings
    assert warning == "--access-log-file has no effect without --access-log"


def test_a_number_of_draining_generations_has_no_effect_without_overlap():
    (warning,) = load([flag("drain_overlap", False), flag("drain_generations", "3")]).warnings
    assert warning == "--drain-generations has no effect without --drain-overlap"


def test_an_admin_port_chosen_by_the_system_counts_as_one():
    assert load([flag("admin_port", "0"), flag("admin_host", "::1")]).warnings == ()


def test_a_stop_that_outlasts_kubernetes_is_pointed_out():
    (warning,) = load([flag("drain_timeout", "26")]).warnings
    assert "31 s" in warning


def test_the_defaults_warn_about_nothing():
    assert load().warnings == ()


@pytest.mark.parametrize(
    ("watcher", "poll"), [("inotify", "0.5"), ("watchfiles", "0.5"), ("polling", "0")]
)
def test_a_watcher_and_an_interval_of_looking_that_do_not_go_together_are_refused(watcher, poll):
    flags = [flag("reload", True), flag("reload_watcher", watcher), flag("reload_poll", poll)]
    error = f"--reload-poll: reload_poll {poll} does not go with reload_watcher {watcher} "
    with pytest.raises(ConfigError, match=error):
        load(flags)


@pytest.mark.parametrize(
    ("watcher", "poll"), [("auto", "0"), ("auto", "0.5"), ("polling", "0.5"), ("inotify", "0")]
)
def test_a_watcher_and_an_interval_of_looking_that_agree_are_taken(watcher, poll):
    flags = [flag("reload", True), flag("reload_watcher", watcher), flag("reload_poll", poll)]
    assert load(flags).warnings == ()


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([("ssl_keyfile", "k")], r"^--ssl-keyfile needs .*give --ssl-certfile$"),
        ([("ssl_sni", ["a:b"])], r"^--ssl-sni needs .*give --ssl-certfile$"),
        (
            [("ssl_keyfile_password", "p"), ("ssl_keyfile_password_file", "f")],
            "--ssl-keyfile-password and --ssl-keyfile-password-file both say",
        ),
        (
            [("ssl_cert_reqs", "required")],
            "^--ssl-cert-reqs required needs --ssl-ca-certs",
        ),
    ],
)
def test_tls_options_that_do_not_go_together_are_refused(flags, error):
    with pytest.raises(ConfigError, match=error):
        load([flag(name, raw) for name, raw in flags])


def test_a_password_on_the_command_line_is_warned_about_and_never_shown():
    pair = [flag("ssl_certfile", "c"), flag("ssl_keyfile_password", "geheim")]
    loaded = load(pair)
    (warning,) = loaded.warnings
    assert "can be read by every user" in warning
    for text in (warning, repr(loaded), render_config(loaded)):
        assert "geheim" not in text
    assert load([], {"UVICORN_SSL_KEYFILE_PASSWORD": "geheim"}).warnings == ()


@pytest.mark.parametrize("bad", ["ge\0heim", 7])
def test_a_password_that_cannot_be_used_is_not_shown_either(tmp_path, bad):
    cases = [lambda: load([flag("ssl_keyfile_password", bad)])]
    cases.append(lambda: config_from_keywords("a:b", {"ssl_keyfile_password": bad}, {}))
    if isinstance(bad, str):
        cases.append(lambda: load([], {"ASGIRELOAD_SSL_KEYFILE_PASSWORD": bad}))
    else:
        write(tmp_path, "asgireload.toml", f"ssl_keyfile_password = {bad}")
        cases.append(lambda: load(directory=tmp_path))
    for case in cases:
        with pytest.raises(ConfigError, match="expected text") as raised:
            case()
        assert str(bad) not in str(raised.value).replace("127.0", "")


@pytest.mark.parametrize("name", ["forwarded_allow_ips", "forwarded_headers", "forwarded_fields"])
def test_forwarded_options_without_forwarded_headers_are_pointed_out(name):
    raw = {"forwarded_headers": "forwarded", "forwarded_fields": ("for",)}.get(name, ("::1",))
    (warning,) = load([flag(name, raw), flag("proxy_headers", False)]).warnings
    assert warning == f"{OPTIONS[name].flag} has no effect without --proxy-headers"


def test_fields_that_the_standard_header_lacks_are_pointed_out():
    said = [flag("forwarded_headers", "forwarded"), flag("forwarded_fields", ("for,host,prefix",))]
    (warning,) = load(said).warnings
    assert "--forwarded-fields prefix has no effect" in warning


@pytest.mark.parametrize(
    ("flags", "environ", "file", "expected"),
    [
        ([flag("ssl_keyfile", "k")], {}, "", "--ssl-keyfile needs"),
        ([], {"ASGIRELOAD_SSL_KEYFILE": "k"}, "", "ASGIRELOAD_SSL_KEYFILE needs"),
        ([], {"UVICORN_SSL_KEYFILE": "k"}, "", "UVICORN_SSL_KEYFILE needs"),
        ([], {}, "ssl_keyfile = 'k'", "asgireload.toml ssl_keyfile needs"),
    ],
)
def test_an_error_names_the_place_and_the_option_once(tmp_path, flags, environ, file, expected):
    write(tmp_path, "asgireload.toml", file)
    with pytest.raises(ConfigError) as raised:
        load(flags, environ, directory=tmp_path)
    assert str(raised.value).startswith(f"{expected} the certificate")


def test_permissions_of_an_admin_socket_are_for_one_with_a_path(tmp_path):
    said = [flag("admin_socket_mode", "0660")]
    (warning,) = load(said, directory=tmp_path).warnings
    assert "--admin-socket-mode" in warning
    assert "private" in warning
    assert not load([*said, flag("admin_socket", "/run/a")], directory=tmp_path).warnings
