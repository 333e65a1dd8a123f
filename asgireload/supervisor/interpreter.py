"""The command line of an interpreter for a child: the options and import path of this interpreter, so that every
template of a server, the first one and those of reloads, has the same.

    python [options of this one] -c BOOTSTRAP MODULE CHANNEL [import path, if it was edited]

Usually the new interpreter builds its own import path: a virtual environment that was replaced under the same name
(`current/.venv`) may have another one. A launcher that has edited the path (a zipapp, shiv, pex, a script that
inserts directories) does not run again, so its path is passed on as it is. The path is read once, when the server
starts, because the working directory may be removed later. Pure, except for `is_edited`, which reads the site
directories when an entry is unknown, and for `own_path`.
"""

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from asgireload.errors import StartupError

BOOTSTRAP = (
    "import sys; sys.flags.safe_path or sys.path.pop(0); module, channel, *path = sys.argv[1:]; "
    "sys.path[:] = path or sys.path; sys.argv[:] = '', channel; "
    "import runpy; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""Removes the working directory, which -c puts first in the import path: the application's directory is added by
name. Then does what -m does, with the import path already in place."""

_LETTERS = {
    "bytes_warning": "b",
    "dont_write_bytecode": "B",
    "debug": "d",
    "ignore_environment": "E",
    "isolated": "I",
    "optimize": "O",
    "quiet": "q",
    "no_user_site": "s",
    "no_site": "S",
    "verbose": "v",
}
"""Flags that the interpreters of children must have as well, with the options that set them."""
_IN_ISOLATED = frozenset({"ignore_environment", "no_user_site"})
_OWN_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The directory from which this package is imported; in a zipapp, the archive."""


class _Flags(Protocol):
    """The attributes of `sys.flags` that are used beside the flags of `_LETTERS`."""

    @property
    def safe_path(self) -> bool: ...
    @property
    def isolated(self) -> int: ...


def interpreter_options(
    flags: _Flags,
    warnoptions: Iterable[str],
    xoptions: Mapping[str, Any],
    *,
    is_unbuffered: bool,
) -> list[str]:
    """Return the command line options that give another interpreter the same flags."""
    options = []
    for name, letter in _LETTERS.items():
        count = int(getattr(flags, name))
        if count and not (flags.isolated and name in _IN_ISOLATED):
            options.append("-" + letter * count)
    if flags.safe_path and not flags.isolated:
        options.append("-P")
    if is_unbuffered:
        options.append("-u")
    options += [f"-W{option}" for option in warnoptions]
    for name, value in xoptions.items():
        options += ["-X", name if value is True else f"{name}={value}"]
    return options


def own_options() -> list[str]:
    """Return the command line options that repeat the flags of this interpreter."""
    is_unbuffered = bool(getattr(sys.__stdout__, "write_through", False))
    return interpreter_options(
        sys.flags, sys.warnoptions, sys._xoptions, is_unbuffered=is_unbuffered
    )


def child_path(path: Sequence[str], own_directories: Collection[str], root: str) -> list[str]:
    """Return the import path without the entry that the interpreter has added for the program itself.

    `own_directories` are the ways in which that entry may be written. The entry stays if this package, at `root`,
    cannot be found without it.
    """
    for place, entry in enumerate(path):
        if entry in own_directories:
            without = [*path[:place], *path[place + 1 :]]
            if os.path.abspath(entry) != root or root in map(os.path.abspath, without):
                return without
            break
    return list(path)


class OwnPath(NamedTuple):
    """The import path for children."""

    entries: tuple[str, ...]
    is_edited: bool


@cache
def own_path() -> OwnPath:
    """Return the import path for children, as it was at the first call."""
    entries = child_path(sys.path, _own_directories(), _OWN_ROOT)
    return OwnPath(tuple(entries), is_edited(entries))


def _own_directories() -> set[str]:
    """Return the entries that the import path may begin with because of the way the program was started."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    spec = getattr(main, "__spec__", None)
    if sys.flags.safe_path or (spec is not None and spec.name == "__main__"):
        return (
            set()
        )  # left out; or the archive or directory that is executed, which -P does not leave out
    if spec is not None or script is None:
        try:
            return {"", os.getcwd()}
        except OSError:
            return {""}
    return {os.path.dirname(script), os.path.dirname(os.path.realpath(script))}


def is_edited(path: Sequence[str]) -> bool:
    """Return whether a fresh interpreter would have another import path, as far as this can be told without one."""
    import site

    standard = os.path.dirname(os.__file__)
    archive = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    known = {
        standard,
        os.path.join(standard, "lib-dynload"),
        os.path.join(os.path.dirname(standard), archive),
    }
    if not sys.flags.no_site:
        directories = list(site.getsitepackages())
        if any(entry not in path for entry in directories if os.path.isdir(entry)):
            return True
        if site.ENABLE_USER_SITE:
            directories.append(site.getusersitepackages())
        known.update(directories)
    if not sys.flags.ignore_environment:
        named = os.environ.get("PYTHONPATH", "")
        known.update(map(os.path.abspath, named.split(os.pathsep) if named else ()))
    unknown = set(path) - known
    return bool(unknown) and not unknown <= _path_files(known)


def _path_files(directories: Iterable[str]) -> set[str]:
    """Return the directories that files named *.pth add to the import path, as `site` reads them."""
    found: set[str] = set()
    for directory in directories:
        try:
            names = [name for name in os.listdir(directory) if name.endswith(".pth")]
        except OSError:
            continue
        for name in names:
            try:
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            found.update(
                os.path.abspath(os.path.join(directory, line.rstrip()))
                for line in lines
                if line.strip() and not line.startswith(("#", "import ", "import\t"))
            )
    return found


def is_plain_program() -> bool:
    """Return whether this process was started by the asgireload command and by no launcher.

    What a launcher does before it calls asgireload is not repeated for the template of a reload, so the first
    template must not depend on it either.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name) == "asgireload.__main__"
    return os.path.basename(getattr(main, "__file__", None) or "") == "asgireload"


def check_executable(executable: str | None, *, is_frozen: bool) -> None:
    """Raise StartupError when no further interpreter can be started; the first template might not need one."""
    if is_frozen:
        raise StartupError(
            "this program is frozen into an executable (sys.frozen), which cannot be started as an interpreter:"
            " templates are interpreters; install asgireload into a virtual environment, or use a zipapp"
        )
    if not executable:
        raise StartupError(
            "sys.executable is empty, so no interpreter can be started for templates: start Python by its"
            " full path"
        )
    if not os.access(executable, os.X_OK):
        raise StartupError(
            f"the interpreter {executable} (sys.executable) cannot be executed, and templates are started"
            " with it: start Python by its full path"
        )


def command(module: str, channel: int) -> list[str]:
    """Return the command line of an interpreter that runs `module` for a child."""
    begin = [sys.executable, *own_options(), "-c", BOOTSTRAP, module, str(channel)]
    path = own_path()
    return [*begin, *path.entries] if path.is_edited else begin
