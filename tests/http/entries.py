"""Entries of the access log for tests."""

from asgireload.http.access_format import AccessEntry

DEFAULTS = {
    "client": ("192.0.2.7", 41582),
    "method": "GET",
    "target": "/a%20b?q=1",
    "http_version": "1.1",
    "scheme": "http",
    "status": 200,
    "request_headers": [
        (b"host", b"example.org"),
        (b"referer", b"https://example.net/"),
        (b"user-agent", b"curl/8.5"),
    ],
    "response_headers": [(b"Content-Type", b"text/plain")],
    "body_bytes": 1234,
    "duration_ns": 1_234_567_890,
    "started_at": 971_211_336.25,
}


def entry(**changes):
    return AccessEntry(**{**DEFAULTS, **changes})
