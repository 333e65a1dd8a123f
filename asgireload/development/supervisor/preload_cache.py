"""What templates are forked from in development: a base and bookmarks, kept up to date.

`fork_sources.py` decides which one serves, and `fork_source_processes.py` has the processes; this file builds the
base, takes bookmarks, and lets go of what has become outdated. When one fails in any way there is less to fork
from, a load takes longer, and nothing else happens.
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from asgireload.config import Config
from asgireload.development.supervisor import fork_sources as deciding
from asgireload.development.supervisor.fork_source_processes import Layer, LayerProcesses, Plan
from asgireload.development.supervisor.fork_sources import Base, Bookmark, Layers
from asgireload.development.supervisor.import_cache import cache_path, read_record, write_record
from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.watcher import watched_directories
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import ProcessHandle
from asgireload.ipc.messages import (
    AnyMessage,
    BaseBuilt,
    BaseUnfit,
    BookmarkStarted,
    BuildBase,
)
from asgireload.ipc.records import (
    BaseContents,
    FilesRead,
    ImportRecord,
    seal,
    sign,
    unseal,
)
from asgireload.supervisor.spawning import leave_deleted_directory, spawn

BASE_MODULE = "asgireload.development.template.library_base"
REBUILD_DELAY = 0.5
"""Seconds before a base is built anew because the application imports more: the load that showed it has the
processor first."""
INSTALL_DELAY = 1.5
"""Seconds without further changes among the libraries before the base is built anew: `pip install` writes
for a while."""
MOST_ATTEMPTS = 6
"""Times that a base is built without one more module that cannot be in it, before there is none."""
MOST_DEATHS = 3
"""Of processes that were forked from one layer, before it is taken to be at fault."""
VOLATILE_AFTER = 3
"""Loads that a variable was different for, after which it is taken to be so at every load."""

_logger = logging.getLogger("asgireload.error")


class Foundation:
    """The base and the bookmarks of one server. `begin()` it, `stop()` it; each process dies with it.

    `on_libraries` is called with the directories whose changes make the base outdated.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        directory: str,
        on_libraries: Callable[[Iterable[str]], None],
    ) -> None:
        self._loop = loop
        self._config = config
        self._directory = directory
        self._on_libraries = on_libraries
        self._is_active = config.reload and config.preload is not False
        self._roots = tuple(
            os.path.realpath(os.path.join(directory, name))
            for name in (config.app_dir or ".", *config.reload_dir)
        )
        self._watched = watched_directories(config)
        self._cache = cache_path(config.app, self._roots[0]) if self._is_active else None
        self._layers = Layers()
        self._processes = LayerProcesses(loop, self._said, self._ended)
        self._record = ImportRecord()
        """What the next base is built from, beside `_later`."""
        self._later: dict[str, None] = {}
        """Libraries that workers import while they serve, in their order."""
        self._built_from: ImportRecord | None = None
        """What the present one is, or is being, built from."""
        self._building: Layer | None = None
        self._build_timer: asyncio.TimerHandle | None = None
        self._rebuild_timer: asyncio.TimerHandle | None = None
        self._waiting: list[Callable[[], None]] = []
        self._excluded: list[str] = []
        self._attempts = 0
        self._has_given_up = False
        self._has_said_so = False
        self._changed: set[str] = set()
        """Files that have changed since the load before."""
        self._since: dict[int, Changes] = {}
        """What has changed since a template was started, by its id."""
        self._differed: Counter[str] = Counter()
        self._is_distrusted = False

    def begin(self) -> None:
        """Build the base from what was imported last, if that is known."""
        if self._cache is not None and (record := read_record(self._cache)) is not None:
            self._record = record
            self._build()

    def stop(self) -> None:
        """Kill every process, and start none any more. Idempotent."""
        self._is_active = False
        self._waiting.clear()
        for timer in (self._build_timer, self._rebuild_timer):
            if timer is not None:
                timer.cancel()
        for layer in self._processes.all():
            self._drop(layer)

    async def wait_stopped(self, timeout: float) -> None:
        """Return when the exit of every process that was killed has been collected, or after `timeout`
        seconds."""
        await self._processes.wait_collected(timeout)

    # --- what templates are started from ----------------------------------------------------------

    def provide(
        self, template_id: int, on_plan: Callable[[Plan], None], *, imports: bool, preload: bool
    ) -> None:
        """Call `on_plan`, at once or when the base that is being built is ready.

        `imports`: the template shall import the application; `preload`: or its workers shall.
        """
        self._since[template_id] = NOTHING
        if not self._is_active:
            on_plan(Plan())
        elif self._building is not None and self._layers.base is None:
            self._waiting.append(lambda: on_plan(self._plan(imports=imports, preload=preload)))
        else:
            on_plan(self._plan(imports=imports, preload=preload))

    def _plan(self, *, imports: bool, preload: bool) -> Plan:
        if not self._is_active:
            return Plan()
        if imports and self._is_distrusted:
            self._is_distrusted = False
            return Plan()
        self._drop_unseen()
        loads = imports and preload
        layers = self._layers if loads else replace(self._layers, bookmarks=())
        chosen = deciding.choose_layer(layers)
        layer = self._processes.get(chosen.layer_id) if chosen is not None else None
        if layer is not None and imports and not preload and layer.variables:
            # Nobody would see whether the variables are still the same.
            layer = None
        bookmark = deciding.choose_bookmark(layers, self._changed) if loads else ""
        if loads:
            self._changed.clear()
        if layer is not None:
            self._layers = deciding.with_used(self._layers, layer.layer_id)
        spare = layer.take_spare() if layer is not None else None
        ignored = tuple(n for n, count in self._differed.items() if count >= VOLATILE_AFTER)
        return Plan(layer, bookmark, ignored, spare)

    def _drop_unseen(self) -> None:
        """Let go of layers with files that have changed where nobody watches."""
        for layer in self._processes.all():
            if any(sign(path) != seen for path, seen in layer.signatures.items()):
                is_base = layer is not self._building and self._is_base(layer)
                self._drop(layer)
                if is_base:
                    self._replace_layers(replace(self._layers, bookmarks=()))
                    self._rebuild_later(INSTALL_DELAY)

    def begin_anew(self) -> None:
        """Somebody asks for a reload who is not the watcher: for reasons that only a fresh interpreter can
        do justice to."""
        self._replace_layers(replace(self._layers, bookmarks=()))
        self._is_distrusted = self._is_active

    def template_gone(self, template_id: int) -> None:
        self._since.pop(template_id, None)

    def distrust(self, layer: Layer | None, *, next_too: bool = False) -> None:
        """What was forked from `layer` has died without a word: that may be the layer's fault, or not.

        `next_too`: the next load does without any, to see.
        """
        self._is_distrusted = self._is_distrusted or next_too
        if layer is None:
            return
        layer.deaths += 1
        if layer.deaths < MOST_DEATHS or self._processes.get(layer.layer_id) is None:
            return
        if self._is_base(layer):
            self._give_up("what is forked from there keeps dying")
        self._drop(layer)

    # --- what happens -----------------------------------------------------------------------------

    def take_changes(self, changes: Changes) -> None:
        """Files have changed: what has read them is outdated from now on."""
        changes = _resolved(changes)
        self._changed |= changes.arrived
        for template_id, before in self._since.items():
            self._since[template_id] = before | changes
        left = deciding.without_outdated(self._layers, changes, self._roots)
        self._replace_layers(left)
        if changes.is_environment:
            self._abandon_build()
            self._excluded.clear()
            self._attempts = 0
            self._rebuild_later(INSTALL_DELAY)
        elif left.base is None and self._building is None and not self._has_given_up:
            self._rebuild_later(REBUILD_DELAY)

    def take_record(self, descriptor: int, *, is_whole: bool) -> None:
        """A template tells what it has imported."""
        record = unseal(descriptor, ImportRecord)
        files = {module.file: module.name for module in record.files}
        self._layers = deciding.with_modules(self._layers, files, is_whole=is_whole)
        self._renew_spare()
        if not self._is_active or not is_whole:
            return
        known = self._built_from
        is_news = (
            known is None
            or not set(record.libraries) <= set(known.libraries)
            or record.variables != known.variables
        )
        self._record = record
        if is_news:
            self._attempts = 0
            self._rebuild_later(REBUILD_DELAY)

    def take_later_imports(self, descriptor: int) -> None:
        """A worker tells which libraries it has imported while it served."""
        later = unseal(descriptor, ImportRecord).libraries
        known = set(self._record.libraries)
        self._later.update(dict.fromkeys(name for name in later if name not in known))
        if self._is_active and self._built_from is not None:
            if not set(later) <= set(self._built_from.libraries):
                self._rebuild_later(REBUILD_DELAY)

    def take_bookmark(
        self, template_id: int, layer: Layer | None, module: str, descriptors: list[int]
    ) -> None:
        """A template, forked from `layer`, has left a bookmark behind."""
        channel = Channel(socket.socket(fileno=descriptors[0]))
        read = unseal(descriptors[1], FilesRead)
        bookmark = Bookmark(0, module, frozenset(read.files))
        since = self._since.get(template_id, Changes(is_vague=True))
        alone = replace(self._layers, bookmarks=(bookmark,))
        if not deciding.without_outdated(alone, since, self._roots).bookmarks:
            channel.close()  # it ends by itself
            return
        held = self._processes.add(
            channel,
            None,
            variables=layer.variables if layer is not None else None,
            name=f"bookmark before {module}",
            signatures={
                path: seen for path, seen in read.files.items() if not self._is_watched(path)
            },
        )
        bookmark = replace(bookmark, layer_id=held.layer_id)
        self._replace_layers(deciding.with_bookmark(self._layers, bookmark))

    def _is_watched(self, path: str) -> bool:
        return any(path.startswith(root + os.sep) for root in self._watched)

    def take_misfit(self, layer: Layer | None, variables: tuple[str, ...]) -> None:
        """The application has changed the environment otherwise than `layer` was built with."""
        _logger.info(
            "The libraries are imported again, because the application sets %s differently",
            ", ".join(variables),
        )
        self._differed.update(variables)
        if layer is not None:
            self._drop(layer)

    def _is_base(self, layer: Layer) -> bool:
        base = self._layers.base
        return base is not None and base.layer_id == layer.layer_id

    def _replace_layers(self, layers: Layers) -> None:
        """Let go of what is not among `layers`."""
        before = {layer.layer_id for layer in _all(self._layers)}
        after = {layer.layer_id for layer in _all(layers)}
        self._layers = layers
        for layer_id in before - after:
            if (layer := self._processes.get(layer_id)) is not None:
                self._drop(layer)

    # --- the base ---------------------------------------------------------------------------------

    def _rebuild_later(self, delay: float) -> None:
        if not self._is_active or not self._record.libraries:
            return
        if self._rebuild_timer is not None:
            self._rebuild_timer.cancel()
        self._rebuild_timer = self._loop.call_later(delay, self._build)

    def _build(self) -> None:
        self._rebuild_timer = None
        self._abandon_build()
        self._attempts += 1
        self._has_given_up = False
        known = set(self._record.libraries)
        later = (name for name in self._later if name not in known)
        self._record = msgspec.structs.replace(
            self._record, libraries=(*self._record.libraries, *later)
        )
        if self._cache is not None:
            write_record(self._cache, self._record)
        channel, theirs = Channel.pair()
        try:
            with theirs:
                leave_deleted_directory()
                process = ProcessHandle(spawn(BASE_MODULE, theirs.fileno()))
            record = seal(self._record)
        except OSError as error:
            channel.close()
            self._give_up(f"could not be started: {error}")
            return
        layer = self._processes.add(
            channel, process, variables=dict(self._record.variables), name="base"
        )
        self._building, self._built_from = layer, self._record
        try:
            order = BuildBase(self._config, self._directory, tuple(self._excluded))
            channel.post(order, [record])
        finally:
            os.close(record)
        self._build_timer = self._loop.call_later(
            self._config.boot_timeout, self._build_failed, layer, "it takes too long"
        )

    def _abandon_build(self) -> None:
        if self._building is not None:
            self._drop(self._building)

    def _base_built(self, layer: Layer, message: BaseBuilt, descriptor: int) -> None:
        contents = unseal(descriptor, BaseContents)
        self._end_build()
        layer.signatures = contents.search_path
        base = Base(layer.layer_id, frozenset(contents.tops))
        self._replace_layers(replace(self._layers, base=base))
        self._attempts = 0
        level = logging.DEBUG if self._has_said_so else logging.INFO
        self._has_said_so = True
        _logger.log(
            level,
            "%d modules of libraries are kept in memory (imported in %.2f s): a save imports only the"
            " application's own modules",
            len(self._built_from.libraries) if self._built_from is not None else 0,
            message.seconds,
        )
        if contents.left_out:
            _logger.debug("Imported at each load: %s", ", ".join(contents.left_out))
        self._on_libraries(contents.directories)
        self._renew_spare()
        self._go_on()

    def _base_unfit(self, layer: Layer, message: BaseUnfit) -> None:
        self._excluded.append(message.module)
        _logger.info(
            "%s cannot be kept in memory, so each save imports it again: %s",
            message.module,
            message.reason,
        )
        if self._attempts >= MOST_ATTEMPTS:
            self._build_failed(layer, f"{message.module}: {message.reason}")
            return
        waiting, self._waiting = self._waiting, []
        self._drop(layer)
        self._waiting = waiting
        self._build()

    def _build_failed(self, layer: Layer, reason: str) -> None:
        if layer is self._building:
            self._give_up(reason)
            self._drop(layer)

    def _give_up(self, reason: str) -> None:
        self._has_given_up = True
        _logger.warning(
            "The libraries cannot be kept in memory, so each save starts a fresh interpreter: %s",
            reason,
        )

    def _end_build(self) -> None:
        self._building = None
        if self._build_timer is not None:
            self._build_timer.cancel()
            self._build_timer = None

    def _go_on(self) -> None:
        """Let those go on who waited for the base, with it or without."""
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    # --- what the processes say -------------------------------------------------------------------

    def hear(self) -> None:
        """Learn the numbers of processes that have just begun, before any exit is collected."""
        self._processes.hear()

    def collected(self, pid: int, code: int) -> bool:
        """A child of the supervisor has ended; return whether it was one of these."""
        return self._processes.collected(pid, code)

    def _said(self, layer: Layer, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case BookmarkStarted():
                layer.process = ProcessHandle(message.pid)
            case BaseBuilt():
                self._base_built(layer, message, descriptors[0])
            case BaseUnfit():
                self._base_unfit(layer, message)
            case _:
                raise AssertionError(message)

    def _ended(self, layer: Layer, reason: str) -> None:
        if layer is self._building:
            self._give_up(f"the process that imported them ended: {reason}")
        self._drop(layer)

    def _renew_spare(self) -> None:
        """Have a template forked ahead from what the next save will most likely be served by."""
        chosen = deciding.choose_layer(self._layers)
        self._processes.keep_spare(chosen.layer_id if chosen is not None else None)

    def _drop(self, layer: Layer) -> None:
        """Let go of a layer. What is forked from it already lives on."""
        if not self._processes.drop(layer):
            return
        if self._is_base(layer):
            self._layers = replace(self._layers, base=None)
        else:
            others = tuple(b for b in self._layers.bookmarks if b.layer_id != layer.layer_id)
            self._layers = replace(self._layers, bookmarks=others)
        if layer is self._building:
            self._end_build()
            self._go_on()


def _all(layers: Layers) -> list[Base | Bookmark]:
    return [*([layers.base] if layers.base is not None else []), *layers.bookmarks]


def _resolved(changes: Changes) -> Changes:
    return replace(
        changes,
        arrived=frozenset(os.path.realpath(path) for path in changes.arrived),
        vanished=frozenset(os.path.realpath(path) for path in changes.vanished),
    )
