"""Packages that an option asks for by name."""

import pytest

from asgireload.config import Config
from asgireload.errors import StartupError
from asgireload.supervisor import requirements
from asgireload.supervisor.requirements import check_requirements

ASKING = {
    "uvloop": {"loop": "uvloop"},
    "httptools": {"http": "httptools"},
    "h11": {"http": "h11"},
    "wsproto": {"ws": "wsproto"},
    "watchfiles": {"reload_watcher": "watchfiles", "reload": True},
}


@pytest.mark.parametrize(("package", "options"), ASKING.items())
def test_what_is_not_installed_is_named_with_the_option_and_the_way_to_get_it(
    monkeypatch, package, options
):
    config = Config(app="app:app", **options)
    check_requirements(config)
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(StartupError) as raised:
        check_requirements(config)
    option, value = next(iter(options.items()))
    flag = "--" + option.replace("_", "-")
    assert str(raised.value) == (
        f"{flag} {value} needs the package {package}: pip install 'asgireload[standard]'"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"ws": "auto"},
        {"ws": "builtin"},
        {"ws": "none"},
        {"reload": True, "reload_watcher": "inotify"},
        {"reload": True, "reload_watcher": "polling"},
        {"reload": False, "reload_watcher": "watchfiles"},
    ],
)
def test_our_own_needs_nothing(monkeypatch, options):
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    check_requirements(Config(app="app:app", **options))
