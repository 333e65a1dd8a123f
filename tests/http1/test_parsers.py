"""Which parser an option means."""

from asgireload.http1.parsers import choose_parser


def test_auto_takes_our_own_parser() -> None:
    assert choose_parser("auto") == choose_parser("builtin") == "builtin"
    assert choose_parser("h11") == "h11"
    assert choose_parser("httptools") == "httptools"
