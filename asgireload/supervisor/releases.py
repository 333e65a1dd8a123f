"""Releases that a symbolic link names, and packages that a reload would load from the wrong release.

    /srv/shop/current -> releases/42        asgireload runs with /srv/shop/releases/41/.venv

A console script names its interpreter by the path of the release that it was installed in, even if it was started
through a link. A reload then loads new code with old packages, and succeeds.
"""

import logging
import os
import sys

import msgspec

_logger = logging.getLogger("asgireload.error")


class LinkedRelease(msgspec.Struct, frozen=True):
    link: str
    """The link, as it was typed."""
    root: str
    """The target of the link; equal to `link` when there is no link."""


class Mixture(msgspec.Struct, frozen=True):
    """An application that runs with the packages of another release."""

    environment: str
    """The environment that the server runs with."""
    own: str
    """The environment in the application's own release, which may not exist."""
    through_link: str
    """The path of the environment through the link, which changes with the release."""


def release_of(typed: str, resolved: str) -> LinkedRelease:
    """Return the link in a path and its target, without the common rest of both paths. Pure."""
    link, root = typed, resolved
    while link != root:
        (rest, name), (other, other_name) = os.path.split(link), os.path.split(root)
        if not name or name != other_name:
            break
        link, root = rest, other
    return LinkedRelease(link, root)


def find_mixture(first: LinkedRelease, now: LinkedRelease, environment: str) -> Mixture | None:
    """Return the mixture that a reload would load, or None. Pure.

    `first` is the release at the start, `now` the release that is loaded; `environment` is the resolved path of the
    interpreter's packages.
    """
    if first.root == now.root or not environment.startswith(first.root + os.sep):
        return None
    place = os.path.relpath(environment, first.root)
    return Mixture(environment, os.path.join(now.root, place), os.path.join(now.link, place))


class Releases:
    """Checks each new generation in `look()`, and logs a warning for each one that mixes releases."""

    def __init__(self, directory: str) -> None:
        """`directory` is the directory from which the application is loaded, as it was typed."""
        self._typed = os.path.normpath(directory)
        self._first = self._release()
        self._looked_at: int | None = None

    def look(self, generation: int) -> None:
        if self._looked_at is not None and generation <= self._looked_at:
            return  # another template of a generation that was already checked
        is_first = self._looked_at is None
        self._looked_at = generation
        if is_first:
            return
        found = find_mixture(self._first, self._release(), os.path.realpath(sys.prefix))
        if found is not None and os.path.exists(os.path.join(found.own, "pyvenv.cfg")):
            _logger.warning(
                "Generation %d is loaded with the packages of another release, %s; its own are in %s. Start the"
                " server as %s -m asgireload, so that a reload takes them from where the link leads",
                generation,
                found.environment,
                found.own,
                os.path.join(found.through_link, "bin", "python"),
            )

    def _release(self) -> LinkedRelease:
        return release_of(self._typed, os.path.realpath(self._typed))
