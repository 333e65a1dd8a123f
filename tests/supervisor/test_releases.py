"""What a reload mixes when a release is switched by a link."""

import pytest

from asgireload.supervisor.releases import LinkedRelease, Mixture, find_mixture, release_of

SHOP = LinkedRelease("/srv/shop/current", "/srv/shop/releases/41")
NEXT = LinkedRelease("/srv/shop/current", "/srv/shop/releases/42")


@pytest.mark.parametrize(
    ("typed", "resolved", "release"),
    [
        ("/srv/shop/current", "/srv/shop/releases/41", SHOP),
        ("/srv/shop/current/src/web", "/srv/shop/releases/41/src/web", SHOP),
        ("/srv/shop", "/srv/shop", LinkedRelease("/srv/shop", "/srv/shop")),
        ("/current", "/", LinkedRelease("/current", "/")),
    ],
)
def test_a_link_is_found_wherever_it_is_in_the_path(typed, resolved, release):
    assert release_of(typed, resolved) == release


def test_an_environment_of_the_old_release_is_a_mixture():
    assert find_mixture(SHOP, NEXT, "/srv/shop/releases/41/.venv") == Mixture(
        "/srv/shop/releases/41/.venv", "/srv/shop/releases/42/.venv", "/srv/shop/current/.venv"
    )


@pytest.mark.parametrize(
    ("now", "environment"),
    [
        (SHOP, "/srv/shop/releases/41/.venv"),
        (NEXT, "/srv/shop/releases/42/.venv"),
        (NEXT, "/srv/shop/venv"),
        (NEXT, "/srv/shop/releases/411/.venv"),
    ],
)
def test_an_environment_for_all_releases_or_of_this_one_is_none(now, environment):
    assert find_mixture(SHOP, now, environment) is None
