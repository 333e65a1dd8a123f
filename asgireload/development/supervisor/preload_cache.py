"""The preload cache of `--reload`: a library base and import checkpoints that templates are forked from.

This file builds the library base, takes import checkpoints, and drops outdated ones. `fork_sources.py` chooses the
fork source of a template, and `fork_source_processes.py` holds the processes. When a fork source fails, loads take
longer, and nothing else happens.
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
from asgireload.development.supervisor.fork_source_processes import (
    ForkSource,
    ForkSourceProcesses,
)
from asgireload.development.supervisor.fork_sources import (
    ForkSources,
    ImportCheckpoint,
    LibraryBase,
)
from asgireload.development.supervisor.import_cache import cache_path, read_record, write_record
from asgireload.development.supervisor.template_origin import CachedOrigin
from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.watcher import watched_directories
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import (
    AnyMessage,
    BuildLibraryBase,
    ChildStarted,
    LibraryBaseBuilt,
    LibraryBaseUnfit,
)
from asgireload.ipc.records import (
    FilesRead,
    ImportRecord,
    LibraryBaseContents,
    seal,
    sign,
    unseal,
)
from asgireload.supervisor.events import StartTemplate
from asgireload.supervisor.handles import Handles
from asgireload.supervisor.lifecycle import Change
from asgireload.supervisor.load_requests import request_of
from asgireload.supervisor.roles import FORK_SOURCE, IMPORT_CHECKPOINT
from asgireload.supervisor.template_source import TemplateOrigin

BASE_MODULE = "asgireload.development.template.library_base"
REBUILD_DELAY = 0.5
"""Seconds before a base is rebuilt because the application imports more libraries: the running load gets the CPU
first."""
INSTALL_DELAY = 1.5
"""Seconds without further changes to the libraries before the base is rebuilt: `pip install` writes for a while."""
MOST_ATTEMPTS = 6
"""Attempts to build a base, each without one more module that cannot be in it, before the server does without a
base."""
MOST_DEATHS = 3
"""Deaths of processes forked from one fork source after which the source is dropped."""
VOLATILE_AFTER = 3
"""Loads in which an environment variable differed, after which its differences are ignored."""

_logger = logging.getLogger("asgireload.error")


class PreloadCache:
    """The template source of `--reload`: the library base and the checkpoints of one server.

    `on_libraries` is called with the directories in which a change makes the base outdated.
    """

    def __init__(
        self,
        handles: Handles,
        config: Config,
        directory: str,
        on_libraries: Callable[[Iterable[str]], None],
    ) -> None:
        self._loop = handles.loop
        self.system = handles.system
        self._config = config
        self._directory = directory
        self._on_libraries = on_libraries
        self._is_active = config.preload is not False
        self._roots = tuple(
            os.path.realpath(os.path.join(directory, name))
            for name in (config.app_dir or ".", *config.reload_dir)
        )
        self._watched = watched_directories(config)
        self._cache = cache_path(config.app, self._roots[0]) if self._is_active else None
        self._sources = ForkSources()
        self._processes = ForkSourceProcesses(handles, self._said, self._ended)
        self._record = ImportRecord()
        """What the next base is built from, in addition to `_later`."""
        self._later: dict[str, None] = {}
        """Libraries that workers import while they serve, in import order."""
        self._built_from: ImportRecord | None = None
        """The record that the present base was, or is being, built from."""
        self._building: ForkSource | None = None
        self._build_timer: asyncio.TimerHandle | None = None
        self._rebuild_timer: asyncio.TimerHandle | None = None
        self._waiting: list[Callable[[], None]] = []
        self._excluded: list[str] = []
        self._attempts = 0
        self._has_given_up = False
        self._has_said_so = False
        self._changed: set[str] = set()
        """Files that have changed since the last load."""
        self._since: dict[int, Changes] = {}
        """Changes since each template was started, by template id."""
        self._differed: Counter[str] = Counter()
        self._is_distrusted = False

    def begin(self) -> None:
        """Build the base from the import record of the last run, if there is one."""
        if self._cache is not None and (record := read_record(self._cache)) is not None:
            self._record = record
            self._build()

    def stop(self) -> None:
        """Kill every process, and start no more. Idempotent."""
        self._is_active = False
        self._waiting.clear()
        for timer in (self._build_timer, self._rebuild_timer):
            if timer is not None:
                timer.cancel()
        for source in self._processes.all():
            self._drop(source)

    async def wait_stopped(self, timeout: float) -> None:
        """Wait until the exit of every killed process has been collected, at most `timeout` seconds."""
        await self._processes.wait_collected(timeout)

    # --- origins of templates ---------------------------------------------------------------------

    def prepare(self, step: StartTemplate, on_ready: Callable[[TemplateOrigin], None]) -> None:
        """Call `on_ready` with the origin of a template: at once, or when the first base has been built."""
        self._since[step.child_id] = NOTHING
        if self._building is not None and self._sources.library_base is None and self._is_active:
            self._waiting.append(lambda: on_ready(self._choose(step)))
        else:
            on_ready(self._choose(step))

    def prepare_fresh(self, step: StartTemplate) -> CachedOrigin:
        """Return an origin that starts a fresh interpreter."""
        request = request_of(step, self._config, self._directory)
        return CachedOrigin(self, step.child_id, request, None)

    def _choose(self, step: StartTemplate) -> CachedOrigin:
        fresh = self.prepare_fresh(step)
        if not self._is_active:
            return fresh
        imports = step.failure is None
        if imports and self._is_distrusted:
            self._is_distrusted = False
            return fresh
        self._drop_unseen()
        loads = imports and step.preload
        sources = self._sources if loads else replace(self._sources, checkpoints=())
        chosen = deciding.choose_source(sources)
        source = self._processes.get(chosen.source_id) if chosen is not None else None
        if source is not None and imports and not step.preload and source.variables:
            # The template does not import, so nothing would notice that the variables have changed.
            source = None
        checkpoint = deciding.choose_checkpoint(sources, self._changed) if loads else ""
        if loads:
            self._changed.clear()
        if source is not None:
            self._sources = deciding.with_used(self._sources, source.source_id)
        ignored = tuple(n for n, count in self._differed.items() if count >= VOLATILE_AFTER)
        request = replace(
            fresh.request,
            checkpoint=checkpoint,
            source_variables=source.variables if source is not None else None,
            ignored_variables=ignored,
        )
        return CachedOrigin(self, step.child_id, request, source)

    def _drop_unseen(self) -> None:
        """Drop fork sources that have read files outside the watched directories which have changed since."""
        for source in self._processes.all():
            if any(sign(path) != seen for path, seen in source.signatures.items()):
                is_base = source is not self._building and self._is_base(source)
                self._drop(source)
                if is_base:
                    self._replace_sources(replace(self._sources, checkpoints=()))
                    self._rebuild_later(INSTALL_DELAY)

    def begin_anew(self) -> None:
        """Drop the checkpoints, and start the next template in a fresh interpreter.

        Called for a reload that was not asked for by the watcher: its reason may be one that only a fresh
        interpreter takes into account.
        """
        self._replace_sources(replace(self._sources, checkpoints=()))
        self._is_distrusted = self._is_active

    def forget(self, template_id: int) -> None:
        """Forget the changes since the start of a template, which has ended or become a worker."""
        self._since.pop(template_id, None)

    def distrust(self, source: ForkSource, *, next_too: bool = False) -> None:
        """Note that a process forked from `source` has died without a report; drop the source after
        `MOST_DEATHS` of them.

        `next_too`: start the next template in a fresh interpreter, to see whether it dies as well.
        """
        self._is_distrusted = self._is_distrusted or next_too
        source.deaths += 1
        if source.deaths < MOST_DEATHS or self._processes.get(source.source_id) is None:
            return
        if self._is_base(source):
            self._give_up("what is forked from there keeps dying")
        self._drop(source)

    # --- events -----------------------------------------------------------------------------------

    def take_changes(self, changes: Changes) -> None:
        """Drop the fork sources that `changes` make outdated, and rebuild the base when it is one of them."""
        changes = _resolved(changes)
        self._changed |= changes.arrived
        for template_id, before in self._since.items():
            self._since[template_id] = before | changes
        left = deciding.without_outdated(self._sources, changes, self._roots)
        self._replace_sources(left)
        if changes.is_environment:
            self._abandon_build()
            self._excluded.clear()
            self._attempts = 0
            self._rebuild_later(INSTALL_DELAY)
        elif left.library_base is None and self._building is None and not self._has_given_up:
            self._rebuild_later(REBUILD_DELAY)

    def take_record(self, descriptor: int, *, is_whole: bool) -> None:
        """Read the import record that a template has sent; rebuild the base when the record has more libraries or
        other variables. The descriptor is closed."""
        record = unseal(descriptor, ImportRecord)
        files = {module.file: module.name for module in record.files}
        self._sources = deciding.with_modules(self._sources, files, is_whole=is_whole)
        self._renew_standby()
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
        """Read the libraries that a worker has imported while it served; rebuild the base when some are not in it.
        The descriptor is closed."""
        later = unseal(descriptor, ImportRecord).libraries
        known = set(self._record.libraries)
        self._later.update(dict.fromkeys(name for name in later if name not in known))
        if self._is_active and self._built_from is not None:
            if not set(later) <= set(self._built_from.libraries):
                self._rebuild_later(REBUILD_DELAY)

    def take_checkpoint(
        self, template_id: int, source: ForkSource | None, module: str, descriptors: list[int]
    ) -> None:
        """Add an import checkpoint that a template, forked from `source`, has taken before `module`.

        `descriptors`: the channel of the checkpoint, and the record of the files that were read. Both are owned by
        this object.
        """
        channel = Channel(socket.socket(fileno=descriptors[0]))
        read = unseal(descriptors[1], FilesRead)
        checkpoint = ImportCheckpoint(0, module, frozenset(read.files))
        since = self._since.get(template_id, Changes(is_vague=True))
        alone = replace(self._sources, checkpoints=(checkpoint,))
        if not deciding.without_outdated(alone, since, self._roots).checkpoints:
            channel.close()  # the checkpoint ends when its channel closes
            return
        held = self._processes.add(
            IMPORT_CHECKPOINT,
            channel,
            None,
            variables=source.variables if source is not None else None,
            name=f"checkpoint before {module}",
            signatures={
                path: seen for path, seen in read.files.items() if not self._is_watched(path)
            },
        )
        checkpoint = replace(checkpoint, source_id=held.source_id)
        self._replace_sources(deciding.with_checkpoint(self._sources, checkpoint))

    def _is_watched(self, path: str) -> bool:
        return any(path.startswith(root + os.sep) for root in self._watched)

    def take_differing_variables(
        self, source: ForkSource | None, variables: tuple[str, ...]
    ) -> None:
        """Drop `source`: the application sets `variables` to other values than `source` was built with."""
        _logger.info(
            "The libraries are imported again, because the application sets %s differently",
            ", ".join(variables),
        )
        self._differed.update(variables)
        if source is not None:
            self._drop(source)

    def _is_base(self, source: ForkSource) -> bool:
        base = self._sources.library_base
        return base is not None and base.source_id == source.source_id

    def _replace_sources(self, sources: ForkSources) -> None:
        """Drop the processes of fork sources that are not in `sources`."""
        before = {source.source_id for source in _all(self._sources)}
        after = {source.source_id for source in _all(sources)}
        self._sources = sources
        for source_id in before - after:
            if (source := self._processes.get(source_id)) is not None:
                self._drop(source)

    # --- the library base -------------------------------------------------------------------------

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
                process = self.system.spawn(BASE_MODULE, theirs.fileno())
            record = seal(self._record)
        except OSError as error:
            channel.close()
            self._give_up(f"could not be started: {error}")
            return
        source = self._processes.add(
            FORK_SOURCE,
            channel,
            process,
            variables=dict(self._record.variables),
            name="library base",
        )
        self._building, self._built_from = source, self._record
        try:
            order = BuildLibraryBase(self._config, self._directory, tuple(self._excluded))
            channel.post(order, [record])
        finally:
            os.close(record)
        self._build_timer = self._loop.call_later(
            self._config.boot_timeout, self._build_failed, source, "it takes too long"
        )

    def _abandon_build(self) -> None:
        if self._building is not None:
            self._drop(self._building)

    def _base_built(self, source: ForkSource, message: LibraryBaseBuilt, descriptor: int) -> None:
        contents = unseal(descriptor, LibraryBaseContents)
        source.advance(Change.READY)
        self._end_build()
        source.signatures = contents.search_path
        base = LibraryBase(source.source_id, frozenset(contents.tops))
        self._replace_sources(replace(self._sources, library_base=base))
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
        self._renew_standby()
        self._go_on()

    def _base_unfit(self, source: ForkSource, message: LibraryBaseUnfit) -> None:
        self._excluded.append(message.module)
        _logger.info(
            "%s cannot be kept in memory, so each save imports it again: %s",
            message.module,
            message.reason,
        )
        if self._attempts >= MOST_ATTEMPTS:
            self._build_failed(source, f"{message.module}: {message.reason}")
            return
        waiting, self._waiting = self._waiting, []
        self._drop(source)
        self._waiting = waiting
        self._build()

    def _build_failed(self, source: ForkSource, reason: str) -> None:
        if source is self._building:
            self._give_up(reason)
            self._drop(source)

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
        """Start the templates that waited for the base, whether or not it was built."""
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    # --- messages and exits of the processes ------------------------------------------------------

    def _said(self, source: ForkSource, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case ChildStarted():
                # A checkpoint waits for orders in the middle of an import.
                source.advance(Change.READY)
            case LibraryBaseBuilt():
                self._base_built(source, message, descriptors[0])
            case LibraryBaseUnfit():
                self._base_unfit(source, message)
            case _:
                raise AssertionError(message)

    def _ended(self, source: ForkSource, reason: str) -> None:
        if source is self._building:
            self._give_up(f"the process that imported them ended: {reason}")
        self._drop(source)

    def _renew_standby(self) -> None:
        """Keep a standby template of the fork source that the next save will most likely use."""
        chosen = deciding.choose_source(self._sources)
        self._processes.keep_standby(chosen.source_id if chosen is not None else None)

    def _drop(self, source: ForkSource) -> None:
        """Kill the process of a fork source. Processes forked from it live on."""
        if not self._processes.drop(source):
            return
        if self._is_base(source):
            self._sources = replace(self._sources, library_base=None)
        else:
            others = tuple(b for b in self._sources.checkpoints if b.source_id != source.source_id)
            self._sources = replace(self._sources, checkpoints=others)
        if source is self._building:
            self._end_build()
            self._go_on()


def _all(sources: ForkSources) -> list[LibraryBase | ImportCheckpoint]:
    return [
        *([sources.library_base] if sources.library_base is not None else []),
        *sources.checkpoints,
    ]


def _resolved(changes: Changes) -> Changes:
    return replace(
        changes,
        arrived=frozenset(os.path.realpath(path) for path in changes.arrived),
        vanished=frozenset(os.path.realpath(path) for path in changes.vanished),
    )
