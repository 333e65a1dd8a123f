import pytest

from asgireload.config import OPTIONS, FlagValue, config_from_keywords, load_config, render_config
from asgireload.errors import ConfigError


def flag(name, raw, text=None):
    return FlagValue(name, text or OPTIONS[name].flag, raw, OPTIONS[name].kind)


def load(flags=(), environ=None, directory="/nonexistent", config_file=None):
    return load_config(flags, environ or {}, str(directory), config_file)


def write(directory, name, text):
    (directory / name).write_text(text)


def test_each_source_overrules_the_weaker_ones(tmp_path):
    """Command line, our variables, uvicorn's, the file, pyproject.toml, the platform, the default."""
    sources = [
        ("--workers", 7),
        ("ASGIRELOAD_WORKERS", 6),
        ("UVICORN_WORKERS", 5),
        ("asgireload.toml", 4),
        ("pyproject.toml [tool.asgireload]", 3),
        ("$WEB_CONCURRENCY", 2),
        ("default", 1),
    ]
    environ = {"ASGIRELOAD_WORKERS": "6", "UVICORN_WORKERS": "5", "WEB_CONCURRENCY": "2"}
    write(tmp_path, "asgireload.toml", "workers = 4")
    write(tmp_path, "pyproject.toml", "[tool.asgireload]\nworkers = 3")
    flags = [flag("workers", "7")]

    def take_away(origin):
        environ.pop(origin.removeprefix("$"), None)
        if origin == "--workers":
            flags.clear()
        file = tmp_path / origin.split(" ")[0]
        if file.is_file():
            file.unlink()

    for origin, workers in sources:
        loaded = load(flags, environ, tmp_path)
        assert (loaded.config.workers, loaded.origins["workers"]) == (workers, origin)
        take_away(origin)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "workers = 'four'",
            "pyproject.toml [tool.asgireload] workers = 'four': expected an integer from 1 to 512",
        ),
        (
            "worker = 4",
            "pyproject.toml [tool.asgireload] worker: there is no such option; did you mean workers?",
        ),
        (
            "drain-timeout = 4",
            (
                "pyproject.toml [tool.asgireload] drain-timeout: there is no such option;"
                " did you mean drain_timeout?"
            ),
        ),
        (
            "limit_max_requests = 4",
            (
                "pyproject.toml [tool.asgireload] limit_max_requests: there is no such option; did you mean"
                " max_requests?"
            ),
        ),
    ],
)
def test_a_bad_file_entry_is_refused_with_its_place(tmp_path, text, error):
    write(tmp_path, "pyproject.toml", f"[tool.asgireload]\n{text}")
    with pytest.raises(ConfigError) as caught:
        load(directory=tmp_path)
    assert str(caught.value) == error


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    """A broken configuration file is an answer with the line, not a crash."""
    write(tmp_path, "asgireload.toml", "host = '::1'\nworkers = x")
    with pytest.raises(ConfigError, match=r"asgireload\.toml: not valid TOML.*line 2"):
        load(directory=tmp_path)


def test_a_named_file_must_exist_and_replaces_the_one_found(tmp_path):
    write(tmp_path, "asgireload.toml", "workers = 2")
    write(tmp_path, "other.toml", "workers = 3")
    assert load(directory=tmp_path, config_file="other.toml").config.workers == 3
    named = load(environ={"ASGIRELOAD_CONFIG": "other.toml"}, directory=tmp_path)
    assert named.origins["workers"] == "other.toml"
    with pytest.raises(ConfigError, match=r"missing\.toml: there is no such"):
        load(directory=tmp_path, config_file="missing.toml")


def test_an_unknown_variable_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        load(environ={"ASGIRELOAD_WORKER": "4"})
    assert str(caught.value) == (
        "ASGIRELOAD_WORKER: there is no such option; did you mean ASGIRELOAD_WORKERS?"
    )


def test_a_bad_variable_is_named():
    with pytest.raises(
        ConfigError, match=r"ASGIRELOAD_PORT='x': expected an integer from 0 to 65535"
    ):
        load(environ={"ASGIRELOAD_PORT": "x"})


def test_empty_variables_count_as_absent():
    loaded = load(environ={"ASGIRELOAD_PORT": "", "PORT": "", "UVICORN_HOST": ""})
    assert (loaded.config.port, loaded.config.host, loaded.notices) == (8000, "127.0.0.1", ())


def test_lists_in_variables():
    loaded = load(
        environ={
            "ASGIRELOAD_BIND": "127.0.0.1:1,unix:/x",
            "ASGIRELOAD_HEADER": "A: b c\nD: e",
            "UVICORN_RELOAD_DIRS": "/a b:/c",
        }
    )
    assert loaded.config.bind == ("127.0.0.1:1", "unix:/x")
    assert loaded.config.header == (("A", "b c"), ("D", "e"))
    assert loaded.config.reload_dir == ("/a b", "/c")


def test_values_taken_from_uvicorns_variables_are_said_in_one_line():
    loaded = load(environ={"UVICORN_HOST": "::1", "UVICORN_LOOP": "asyncio"})
    assert loaded.config.host == "::1"
    (notice,) = loaded.notices
    assert "UVICORN_HOST, UVICORN_LOOP" in notice


def test_uvicorn_options_that_are_absent_here_are_warned_about():
    loaded = load(environ={"UVICORN_RESET_CONTEXTVARS": "true"})
    assert "UVICORN_RESET_CONTEXTVARS has no effect" in loaded.warnings[0]


def test_the_platforms_port_is_a_default_and_is_said():
    loaded = load(environ={"PORT": "5000"})
    assert (loaded.config.port, loaded.notices) == (5000, ("Port 5000 comes from $PORT",))
    assert load([flag("port", "1")], {"PORT": "5000"}).notices == ()
    assert load([flag("uds", "/x")], {"PORT": "5000"}).notices == ()


def test_words_of_other_servers_are_taken_with_a_notice():
    loaded = load([flag("http", "zttp"), flag("loop", "zuvloop")])
    assert (loaded.config.http, loaded.config.loop, len(loaded.notices)) == ("auto", "auto", 2)


def test_one_option_in_two_units_is_refused():
    option = OPTIONS["max_rss"]
    (alias, kind), *_ = option.scaled_aliases.items()
    assert load([FlagValue("max_rss", alias, "512", kind)]).config.max_rss == 512 * 2**20
    with pytest.raises(ConfigError, match="say the same"):
        load([flag("max_rss", "1G"), FlagValue("max_rss", alias, "512", kind)])


def test_printed_configuration_can_be_read_back(tmp_path):
    flags = [flag("header", ('A: "b\\c"',)), flag("workers", "3"), flag("max_rss", "512M")]
    loaded = load([*flags, flag("bind", ("127.0.0.1:1", "unix:/x y"))])
    text = "\n".join(
        line
        for line in render_config(loaded).splitlines()
        # A file cannot say several ways to listen at once, not even with their defaults.
        if not line.startswith(("host ", "port "))
    )
    write(tmp_path, "asgireload.toml", text)
    assert load(directory=tmp_path).config == loaded.config
    assert "--workers" in render_config(loaded)


class TestKeywords:
    def read(self, app="main:app", **keywords):
        environ = {"WEB_CONCURRENCY": "4", "PORT": "1", "FORWARDED_ALLOW_IPS": "10.0.0.0/8,unix"}
        return config_from_keywords(app, keywords, environ)

    def test_uvicorns_names_and_ours_are_understood(self):
        config = self.read(
            headers=[("A", "b")],
            limit_max_requests=5,
            timeout_graceful_shutdown=9,
            reload_dirs="src",
            ws_ping_interval=None,
            workers=None,
            log_level=None,
            proxy_headers=False,
            ssl_keyfile=None,
        ).config
        assert config.header == (("A", "b"),)
        assert (config.max_requests, config.drain_timeout, config.reload_dir) == (5, 9.0, ("src",))
        assert (config.ws_ping_interval, config.log_level) == (None, "info")
        assert (config.workers, config.port) == (4, 8000)
        assert not config.proxy_headers
        assert config.forwarded_allow_ips == ("10.0.0.0/8", "unix")
        assert self.read(forwarded_allow_ips="*").config.forwarded_allow_ips == ("*",)
        assert self.read(forwarded_allow_ips=["::1"]).config.forwarded_allow_ips == ("::1",)

    def test_an_application_object_is_refused_with_the_reason(self):
        with pytest.raises(ConfigError, match="import string"):
            self.read(app=object())

    @pytest.mark.parametrize(
        ("keywords", "error"),
        [
            ({"wrkers": 3}, r"run\(wrkers=…\): there is no such option; did you mean workers"),
            ({"workers": "x"}, r"run\(workers='x'\): expected an integer"),
            ({"forwarded_allow_ips": "10.0.0.0/8,proxy"}, r"proxy'\): expected an address"),
            ({"ssl_keyfile": "k"}, "needs the certificate that goes with it"),
            ({"drain_timeout": 1, "graceful_timeout": 2}, "say the same"),
        ],
    )
    def test_bad_keywords_are_refused(self, keywords, error):
        with pytest.raises(ConfigError, match=error):
            self.read(**keywords)
