"""The library base: a process that holds the application's libraries, and forks templates that import the rest.

    base ── imports the libraries that the last load has imported ── sleeps ·· forks ·▶ template ·▶ worker

The supervisor runs the base in a separate interpreter (`supervisor/interpreter.py`), in development only. The base
imports no code of the application, so edits do not make it outdated. A library that cannot be imported before the
application (because the application sets it up first) is left out, and each load imports it as usual. When a
library leaves behind something that a fork would break, the base reports its name to the supervisor and exits.
"""

import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping

from asgireload.development.template.session import DevelopmentSession
from asgireload.errors import ChannelClosedError
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import (
    children_of,
    enlarge_signal_stack,
    has_lost_peer,
    signal_on_parent_death,
)
from asgireload.ipc.messages import BuildLibraryBase, LibraryBaseBuilt, LibraryBaseUnfit
from asgireload.ipc.quiet_signals import begin_quiet, restore_in_forks
from asgireload.ipc.records import ImportRecord, LibraryBaseContents, seal, sign, unseal
from asgireload.ipc.titles import set_title
from asgireload.libraries import Places, application_places
from asgireload.template.forking import fork_templates
from asgireload.template.hazard_search import find_hazards, native_tasks, open_descriptors
from asgireload.template.main import be_template
from asgireload.template.session import enter_directory, load_env_file
from asgireload.worker.event_loop import import_what_runs
from asgireload.worker.inherited import has_cleanup


def main() -> int:
    """Run the base, and in the processes forked from it templates and workers; return the exit status."""
    supervisor = os.getppid()
    signal_on_parent_death(signal.SIGKILL)
    begin_quiet(signal.SIGTERM)
    sock = socket.socket(fileno=int(sys.argv[1]))
    if has_lost_peer(sock.fileno()):
        return 0  # the supervisor died before prctl(2) took effect
    sock.set_inheritable(False)
    channel = Channel(sock)
    enlarge_signal_stack()
    try:
        app = _build(channel)
        own_channel = fork_templates(channel, app) if app is not None else None
    except ChannelClosedError:
        os._exit(0)
    if own_channel is None:
        os._exit(1)
    return be_template(DevelopmentSession(own_channel, supervisor, is_forked=True))


def _build(channel: Channel) -> str | None:
    """Import the libraries of the record; return the application's name, None when templates cannot be forked."""
    message, descriptors = channel.receive()
    assert isinstance(message, BuildLibraryBase)
    record = unseal(descriptors[0], ImportRecord)
    started = time.monotonic()
    config = message.config
    enter_directory(message.directory, config.app_dir)
    set_title("library base", config.app)
    if config.env_file is not None and os.path.isfile(config.env_file):
        load_env_file(config.env_file)
    import_what_runs(config)
    restore_in_forks()
    places = application_places(config)
    replay = Replay(places, os.path.realpath(config.app_dir or "."), message.excluded)
    unfit = replay.run(record.libraries, record.variables)
    if unfit is not None:
        channel.send(unfit)
        return None
    gc.collect()
    # The garbage collector of a template then does not traverse objects of the base, which would copy their pages.
    gc.freeze()
    contents = seal(replay.contents())
    try:
        channel.send(LibraryBaseBuilt(time.monotonic() - started), [contents])
    finally:
        os.close(contents)
    return config.app


class Replay:
    """Imports modules by name, in order, and checks after each one whether a fork is still safe."""

    def __init__(self, places: Places, app_dir: str, excluded: Iterable[str]) -> None:
        self._places = places
        self._app_dir = app_dir
        self._excluded = tuple(excluded)
        self._own = frozenset(sys.modules)
        """Modules of the server itself, which every template has."""
        self._descriptors = open_descriptors()
        self._seen = (_count_descriptors(), 0, 0)
        """Number of descriptors, native threads and children at the last check."""
        self._known = len(sys.modules)
        self._left_out: list[str] = []

    def run(
        self, names: Iterable[str], variables: Mapping[str, str | None]
    ) -> LibraryBaseUnfit | None:
        """Import the modules `names` with `variables`, which the application would have set, in the environment.

        Return the module that has made this process unfit to fork from, with the reason, or None.
        """
        before = dict(os.environ)
        _set_variables(variables)
        try:
            for name in names:
                if name in sys.modules or self._is_excluded(name):
                    continue
                try:
                    importlib.import_module(name)
                except BaseException:  # noqa: BLE001 - whatever a library raises here, it is imported later
                    self._left_out.append(name)
                if reason := self._what_is_unfit():
                    return LibraryBaseUnfit(name, reason)
        finally:
            _set_variables({name: before.get(name) for name in {*before, *os.environ}})
        return None

    def contents(self) -> LibraryBaseContents:
        tops = {name.partition(".")[0] for name in sys.modules if name not in self._own}
        search_path = {path: seen for path in sys.path if (seen := sign(path)) is not None}
        directories = set(search_path)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name not in self._own and isinstance(file, str):
                directories.add(os.path.dirname(file))
        return LibraryBaseContents(
            tuple(sorted(tops)), tuple(sorted(directories)), search_path, tuple(self._left_out)
        )

    def _is_excluded(self, name: str) -> bool:
        return any(name == other or name.startswith(other + ".") for other in self._excluded)

    def _what_is_unfit(self) -> str:
        """Return what the latest import has left behind, cheaply where that is nothing."""
        seen = (_count_descriptors(), len(native_tasks()), len(children_of(os.getpid())))
        if threading.active_count() > 1 or seen != self._seen:
            self._seen = seen
            unsafe = find_hazards(self._descriptors).unsafe
            if unsafe:
                return "; ".join(unsafe)
        if has_cleanup():
            return "it makes something that has to be removed at exit"
        if len(sys.modules) != self._known:
            names = list(sys.modules)[self._known :]
            self._known = len(sys.modules)
            for name in names:
                if reason := self._what_is_foreign(name):
                    return reason
        return ""

    def _what_is_foreign(self, name: str) -> str:
        """Return why a module must not be in the base: it belongs to the application, or a module of the
        application hides it. Empty: it may."""
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            return ""
        if not self._places.is_library(os.path.realpath(file)) and not self._places.is_library(
            file
        ):
            return f"it imports {name} of the application, {file}"
        top = os.path.join(self._app_dir, name)
        if "." not in name and (os.path.exists(top + ".py") or os.path.isdir(top)):
            return f"{top} takes the place of its module {name}"
        return ""


def _set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value


def _count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    sys.exit(main())
