"""Advice for options of other servers that asgireload does not have."""

from collections.abc import Mapping

ABSENT: Mapping[str, str] = {
    "http2": "asgireload speaks HTTP/1.1; a proxy can speak HTTP/2 to clients",
    "reset_contextvars": "each exchange has a context of its own already",
}
"""Advice by uvicorn's keyword."""

_HTTP2 = ABSENT["http2"]
_WORKER_CLASS = (
    "there is one kind of worker, for ASGI applications; --loop and --http choose what it runs on"
)
_THREADS = "an ASGI application is run by one event loop in each worker; give --workers"
_NO_USER = "start the server as the user it shall have, as with User= and Group= in a systemd unit"
_NO_UMASK = (
    "for a Unix socket give --uds-mode; otherwise start the server under this umask, as with UMask= in a"
    " systemd unit"
)
_NO_DAEMON = "the server stays in the foreground; run it under systemd or another supervisor"
_NO_NAME = "processes are named by their role, slot and generation"
_NO_STATSD = "there is no StatsD client; --admin-port serves metrics for Prometheus at /metrics"
_METRICS = "--admin-port serves metrics for Prometheus at /metrics"
_NO_SYSLOG = "give a handler for syslog in a --log-config file"
_NO_WSGI = "only ASGI applications are served; wrap a WSGI application in a2wsgi.WSGIMiddleware"
_NO_STATIC = "asgireload serves no files; let the application or a proxy do it"
_NO_LENIENCE = "requests are read as RFC 9112 says, and there is no option to accept others"
_DIRECTORY = "change into the directory before the start, or give --app-dir"
_ONE_THREAD = "asgireload has no runtime threads of its own; give --workers"
_RESPAWN = "a worker that dies is always replaced; --give-up-after bounds a crash loop"
_ENDPOINT = "give the address to --bind, as HOST:PORT, unix:PATH or fd://N"
_ENV = "set the variable before the start, or name a file of variables with --env-file"
_SERVER_NAME_OR_SOCKET = (
    "for the Server header give --no-server-header or --header; for the hosts give --allowed-hosts"
)
_REPLACED_DIRTY = "there is no pool for blocking work; run a task queue beside the server"
_CONTROL = (
    "the control socket is --admin-socket; the commands status, reload, stop and scale use it"
)
_SHORT_K = "the kind of worker cannot be chosen: " + _WORKER_CLASS
_NO_EXPIRY = "give --timeout-request-head, --timeout-request-body and --timeout-write"

FLAGS: Mapping[str, str] = {
    # gunicorn, and hypercorn for the flags that both have.
    "-k": _SHORT_K,
    "--worker-class": _WORKER_CLASS,
    "--threads": _THREADS,
    "--worker-connections": "give --limit-connections or --limit-concurrency",
    "--timeout": "give --timeout-worker-healthcheck for a worker that hangs, or --timeout-request for a request",
    "-t": "give --timeout-worker-healthcheck for a worker that hangs, or --timeout-request for a request",
    "-R": "workers always inherit the standard streams",
    "--enable-stdio-inheritance": "workers always inherit the standard streams",
    "--capture-output": "what the application prints goes to the standard streams of the server",
    "--daemon": _NO_DAEMON,
    "-D": _NO_DAEMON,
    "--user": _NO_USER,
    "--group": _NO_USER,
    "-g": _NO_USER,
    "--initgroups": _NO_USER,
    "--umask": _NO_UMASK,
    "-m": _NO_UMASK,
    "-u": f"for a user, {_NO_USER}; for a Unix socket give --uds",
    "--name": _NO_NAME,
    "-n": _NO_NAME,
    "--chdir": _DIRECTORY,
    "--pythonpath": "give --app-dir, or set PYTHONPATH before the start",
    "--env": _ENV,
    "-e": f"for a variable, {_ENV}; for an endpoint, {_ENDPOINT}",
    "-v": "give --version for the version, or --log-level for the level of the log",
    "-s": _SERVER_NAME_OR_SOCKET,
    "--worker-tmp-dir": "heartbeats go through shared memory and need no directory",
    "--reload-engine": "give --reload-watcher auto, inotify, watchfiles or polling",
    "--reload-extra-file": "give --reload-include",
    "--reuse-port": "give --accept per-slot for a socket with SO_REUSEPORT for each worker",
    "--spew": "run the application under a debugger or a tracing tool instead",
    "--logger-class": "give --log-config",
    "--log-config-json": "give the JSON file to --log-config",
    "--log-syslog": _NO_SYSLOG,
    "--log-syslog-to": _NO_SYSLOG,
    "--log-syslog-prefix": _NO_SYSLOG,
    "--log-syslog-facility": _NO_SYSLOG,
    "--disable-redirect-access-to-syslog": _NO_SYSLOG,
    "--statsd-host": _NO_STATSD,
    "--statsd-prefix": _NO_STATSD,
    "--dogstatsd-tags": _NO_STATSD,
    "--enable-backlog-metric": _METRICS,
    "--limit-request-field_size": "give --limit-request-head for all headers together",
    "--limit-request-field": "give --limit-request-head for all headers together",
    "--do-handshake-on-connect": "TLS handshakes never block a worker; --timeout-handshake bounds them",
    "--suppress-ragged-eofs": "a client that ends a TLS connection without a notice is a client that has left",
    "--paste": _NO_WSGI,
    "--paster": _NO_WSGI,
    "--paste-global": _NO_WSGI,
    "--protocol": "only HTTP is supported; a proxy can translate from uwsgi, FastCGI and SCGI",
    "--uwsgi-allow-from": "only HTTP is supported; a proxy can translate from uwsgi, FastCGI and SCGI",
    "--forwarder-headers": "give --forwarded-fields and --forwarded-allow-ips",
    "--header-map": "headers with an underscore are passed on as they are; the application decides",
    "--casefold-http-method": _NO_LENIENCE,
    "--permit-obsolete-folding": _NO_LENIENCE,
    "--permit-unconventional-http-method": _NO_LENIENCE,
    "--permit-unconventional-http-version": _NO_LENIENCE,
    "--strip-header-spaces": _NO_LENIENCE,
    "--http-parser": "give --http",
    "--http-protocols": _HTTP2,
    "--http2-cleartext": _HTTP2,
    "--asgi-loop": "give --loop",
    "--asgi-lifespan": "give --lifespan",
    "--asgi-disconnect-grace-period": "an application is told of a client that leaves and is not cancelled for it",
    "--websocket-max-message-size": "give --ws-max-size",
    "--dirty-app": _REPLACED_DIRTY,
    "--dirty-workers": _REPLACED_DIRTY,
    "--dirty-timeout": _REPLACED_DIRTY,
    "--dirty-threads": _REPLACED_DIRTY,
    "--dirty-graceful-timeout": _REPLACED_DIRTY,
    "--control-socket": _CONTROL,
    "--control-socket-mode": _CONTROL,
    "--no-control-socket": "give --admin-socket none",
    # hypercorn
    "--debug": "give --log-level debug",
    "--error-log": "give --error-log-file",
    "--insecure-bind": "give the address to --bind with the word plain behind it, as --bind '0.0.0.0:80 plain'",
    "--quic-bind": "asgireload speaks HTTP/1.1; a proxy can speak HTTP/3 to clients",
    "--keyfile-password": "give --ssl-keyfile-password-file",
    "--read-timeout": _NO_EXPIRY,
    "--server-name": _SERVER_NAME_OR_SOCKET,
    "--verify-mode": "give --ssl-cert-reqs",
    "--websocket-ping-interval": "give --ws-ping-interval",
    # granian
    "--access-log-fmt": "give --access-log-format",
    "--backpressure": "give --limit-concurrency",
    "--blocking-threads": _THREADS,
    "--blocking-threads-idle-timeout": _THREADS,
    "--runtime-threads": _ONE_THREAD,
    "--runtime-blocking-threads": _ONE_THREAD,
    "--runtime-mode": _ONE_THREAD,
    "--task-impl": "tasks are those of asyncio or uvloop; give --loop",
    "--env-files": "give --env-file",
    "--http1-buffer-size": "give --limit-request-head",
    "--http1-header-read-timeout": "give --timeout-request-head, in seconds",
    "--http1-keep-alive": "give --timeout-keep-alive",
    "--no-http1-keep-alive": "give --timeout-keep-alive 0",
    "--http1-pipeline-flush": "responses to pipelined requests are always gathered",
    "--log": "give --log-level",
    "--no-log": "give --log-level critical and --no-access-log",
    "--metrics": _METRICS,
    "--metrics-address": "give --admin-host",
    "--metrics-port": "give --admin-port",
    "--metrics-scrape-interval": "metrics are read at the moment they are asked for",
    "--process-name": _NO_NAME,
    "--reload-paths": "give --reload-dir",
    "--reload-ignore-dirs": "give --reload-exclude",
    "--reload-ignore-paths": "give --reload-exclude",
    "--reload-ignore-patterns": "give --reload-exclude",
    "--reload-ignore-worker-failure": "a failure of new code never ends the server",
    "--reload-tick": "give --reload-delay",
    "--respawn-failed-workers": _RESPAWN,
    "--respawn-interval": _RESPAWN,
    "--rss-sample-interval": "give --max-rss; how often workers are measured is fixed",
    "--rss-samples": "give --max-rss; how often workers are measured is fixed",
    "--ssl-certificate": "give --ssl-certfile",
    "--ssl-ca": "give --ssl-ca-certs",
    "--ssl-client-verify": "give --ssl-cert-reqs required",
    "--ssl-crl": "give --ssl-context-factory, a function that loads the revocation list into its context",
    "--ssl-protocol-min": "give --ssl-version",
    "--no-ws": "give --ws none",
    "--static-path-dir-to-file": _NO_STATIC,
    "--static-path-expires": _NO_STATIC,
    "--static-path-mount": _NO_STATIC,
    "--static-path-route": _NO_STATIC,
    "--uds-permissions": "give --uds-mode",
    "--url-path-prefix": "give --root-path",
    "--workers-kill-timeout": "give --drain-timeout",
    "--working-dir": _DIRECTORY,
    # daphne
    "--endpoint": _ENDPOINT,
    "--unix-socket": "give --uds",
    "--http-timeout": "give --timeout-request",
    "--websocket_timeout": "a WebSocket may last; --ws-ping-timeout ends one whose client is gone",
    "--websocket_connect_timeout": "give --timeout-request-head",
    "--websocket-max-frame-size": "give --ws-max-frame-size",
    "--application-close-timeout": "an application is told of a client that leaves; --drain-timeout bounds a stop",
    "--ping-interval": "give --ws-ping-interval",
    "--ping-timeout": "give --ws-ping-timeout",
    "--log-fmt": "give --access-log-format",
    "--verbosity": "give --log-level",
    "--proxy-headers-host": "X-Forwarded-For or Forwarded names the client: give --forwarded-headers",
    "--proxy-headers-port": "X-Forwarded-For or Forwarded names the client: give --forwarded-headers",
    "--no-server-name": "give --no-server-header",
}
"""Advice by flag of gunicorn, hypercorn, granian and daphne: the replacement, or why none is needed."""


def explain_flag(flag: str) -> str | None:
    """Return advice for a flag of another server; None for a flag that no other server has."""
    if flag in FLAGS:
        return FLAGS[flag]
    name = flag.lstrip("-").replace("-", "_")
    absent = ABSENT.get(name) or ABSENT.get(name.removeprefix("no_"))
    if absent is not None or flag.startswith(("--http2-", "--no-http2-")):
        return absent or _HTTP2
    if flag.startswith("--no-"):
        return FLAGS.get("--" + flag.removeprefix("--no-"))
    return None
