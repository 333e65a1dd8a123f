"""Options of other servers: each is taken, or answered with what to do instead."""

import re

import click
import pytest

from asgireload.cli.command import serve_command
from asgireload.cli.main import main
from asgireload.config import OPTIONS, config_from_keywords
from asgireload.config.foreign import FLAGS, explain_flag
from asgireload.errors import ConfigError

OF_GUNICORN = """
--access-logfile --access-logformat --asgi-disconnect-grace-period --asgi-lifespan --asgi-loop --backlog --bind
--ca-certs --capture-output --casefold-http-method --cert-reqs --certfile --chdir --check-config --ciphers --config
--control-socket --control-socket-mode --daemon --dirty-app --dirty-graceful-timeout --dirty-threads --dirty-timeout
--dirty-workers --disable-redirect-access-to-syslog --do-handshake-on-connect --dogstatsd-tags
--enable-backlog-metric --enable-stdio-inheritance --env --error-logfile --forwarded-allow-ips --forwarder-headers
--graceful-timeout --group --header-map --help --http-parser --http-protocols --http2-cleartext
--http2-initial-window-size --http2-max-concurrent-streams --http2-max-frame-size --http2-max-header-list-size
--initgroups --keep-alive --keyfile --limit-request-field_size --limit-request-fields --limit-request-line
--log-config --log-config-json --log-file --log-level --log-syslog --log-syslog-facility --log-syslog-prefix
--log-syslog-to --logger-class --max-requests --max-requests-jitter --name --no-control-socket --no-sendfile --paste
--paste-global --paster --permit-obsolete-folding --permit-unconventional-http-method
--permit-unconventional-http-version --pid --preload --print-config --protocol --proxy-allow-from --proxy-protocol
--pythonpath --reload --reload-engine --reload-extra-file --reuse-port --root-path --spew --ssl-version
--statsd-host --statsd-prefix --strip-header-spaces --suppress-ragged-eofs --threads --timeout --umask --user
--uwsgi-allow-from --version --websocket-max-message-size --worker-class --worker-connections --worker-tmp-dir
--workers -D -R -b -c -e -g -h -k -m -n -p -t -u -v -w
"""
OF_HYPERCORN = """
--access-log --access-logfile --access-logformat --backlog --bind --ca-certs --cert-reqs --certfile --ciphers
--config --daemon --debug --error-log --error-logfile --graceful-timeout --group --help --insecure-bind --keep-alive
--keyfile --keyfile-password --log-config --log-file --log-level --max-requests --max-requests-jitter --pid
--quic-bind --read-timeout --reload --root-path --server-name --statsd-host --statsd-prefix --umask --user
--verify-mode --websocket-ping-interval --worker-class --workers -D -b -c -g -h -k -m -p -u -w
"""
OF_GRANIAN = """
--access-log --access-log-fmt --backlog --backpressure --blocking-threads --blocking-threads-idle-timeout
--env-files --factory --help --host --http --http1-buffer-size --http1-header-read-timeout --http1-keep-alive
--http1-pipeline-flush --http2-adaptive-window --http2-initial-connection-window-size
--http2-initial-stream-window-size --http2-keep-alive-interval --http2-keep-alive-timeout
--http2-max-concurrent-streams --http2-max-frame-size --http2-max-headers-size --http2-max-send-buffer-size
--interface --log --log-config --log-level --loop --metrics --metrics-address --metrics-port
--metrics-scrape-interval --no-access-log --no-factory --no-http1-keep-alive --no-http1-pipeline-flush
--no-http2-adaptive-window --no-log --no-metrics --no-reload --no-reload-ignore-worker-failure
--no-respawn-failed-workers --no-ssl-client-verify --no-ws --pid-file --port --process-name --reload
--reload-ignore-dirs --reload-ignore-paths --reload-ignore-patterns --reload-ignore-worker-failure --reload-paths
--reload-tick --respawn-failed-workers --respawn-interval --rss-sample-interval --rss-samples
--runtime-blocking-threads --runtime-mode --runtime-threads --ssl-ca --ssl-certificate --ssl-client-verify --ssl-crl
--ssl-keyfile --ssl-keyfile-password --ssl-protocol-min --static-path-dir-to-file --static-path-expires
--static-path-mount --static-path-route --task-impl --uds --uds-permissions --url-path-prefix --version --workers
--workers-kill-timeout --workers-lifetime --workers-max-rss --working-dir --ws
"""
OF_DAPHNE = """
--access-log --application-close-timeout --bind --endpoint --fd --help --http-timeout --log-fmt --no-server-name
--ping-interval --ping-timeout --port --proxy-headers --proxy-headers-host --proxy-headers-port --root-path
--server-name --unix-socket --verbosity --websocket-max-frame-size --websocket-max-message-size
--websocket_connect_timeout --websocket_timeout -b -e -h -p -s -t -u -v
"""
OF_UVICORN = """
--access-log --app-dir --backlog --date-header --env-file --factory --fd --forwarded-allow-ips
--h11-max-incomplete-event-size --header --help --host --http --http2 --interface --lifespan --limit-concurrency
--limit-max-requests --limit-max-requests-jitter --log-config --log-level --loop --no-access-log --no-date-header
--no-proxy-headers --no-server-header --no-use-colors --port --proxy-headers --reload --reload-delay --reload-dir
--reload-exclude --reload-include --reset-contextvars --root-path --server-header --ssl-ca-certs --ssl-cert-reqs
--ssl-certfile --ssl-ciphers --ssl-keyfile --ssl-keyfile-password --ssl-version --timeout-graceful-shutdown
--timeout-keep-alive --timeout-worker-healthcheck --uds --use-colors --version --workers --ws --ws-max-queue
--ws-max-size --ws-per-message-deflate --ws-ping-interval --ws-ping-timeout
"""
"""As `--help` of gunicorn 27.0, hypercorn 0.18, granian 2.8, daphne 4.2 and uvicorn 0.54 shows them."""

OTHERS = (OF_GUNICORN, OF_HYPERCORN, OF_GRANIAN, OF_DAPHNE, OF_UVICORN)
KNOWN = {"-h", "--help"} | {
    name
    for param in serve_command.params
    if isinstance(param, click.Option)
    for name in (*param.opts, *param.secondary_opts)
}


@pytest.mark.parametrize("flag", sorted({flag for server in OTHERS for flag in server.split()}))
def test_every_option_of_another_server_is_taken_or_explained(flag):
    assert (flag in KNOWN) != (explain_flag(flag) is not None)


@pytest.mark.parametrize("flag", FLAGS)
def test_what_is_advised_exists(flag):
    advice = FLAGS[flag]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", advice)) <= KNOWN
    assert not advice.endswith((".", ";", ","))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["-k", "uvicorn.workers.UvicornWorker"],
            "-k: there is no such option; the kind of worker",
        ),
        (["--threads", "4"], "--threads: there is no such option; an ASGI application is run"),
        (
            ["--timeout", "30"],
            "--timeout: there is no such option; give --timeout-worker-healthcheck",
        ),
        (["--http2"], "--http2: there is no such option; asgireload speaks HTTP/1.1"),
        (["--workerz", "3"], "--workerz: there is no such option; did you mean --workers?"),
        (["--zzz"], "--zzz: there is no such option\n"),
        (["-Z"], "-Z: there is no such option\n"),
    ],
)
def test_an_option_that_is_not_there_is_answered_in_one_line(capsys, words, error):
    assert main(["main:app", *words]) == 2
    assert capsys.readouterr().err.startswith(f"asgireload: error: {error}")


@pytest.mark.parametrize(
    ("word", "error"),
    [("wsgi", "a2wsgi.WSGIMiddleware"), ("rsgi", "RSGI"), ("asginl", "--lifespan off")],
)
def test_another_interface_is_refused_with_a_way_out(capsys, word, error):
    assert main(["main:app", "--interface", word, "--check-config"]) == 2
    assert error in capsys.readouterr().err


def test_granians_name_of_the_interface_is_taken():
    assert OPTIONS["interface"].kind.read("asgi") == "asgi3"


def test_a_key_of_another_server_is_answered_like_its_flag(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asgireload.toml").write_text("threads = 4")
    assert main(["main:app", "--check-config"]) == 2
    shown = capsys.readouterr().err
    assert "asgireload.toml threads: there is no such option; an ASGI application is run" in shown
    with pytest.raises(ConfigError, match=r"run\(threads=…\): there is no such option; an ASGI"):
        config_from_keywords("main:app", {"threads": 4}, {})
