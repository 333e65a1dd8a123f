"""The origin of one template under `--reload`: a fork source, or a fresh interpreter."""

import socket
from typing import Protocol

import msgspec

from asgireload.development.supervisor.fork_source_processes import ForkSource
from asgireload.ipc.messages import (
    AnyMessage,
    AppImported,
    AppLoaded,
    CheckpointTaken,
    ForkTemplate,
    LoadApp,
    VariablesDiffer,
    WorkerImported,
)
from asgireload.supervisor.fresh_templates import start_fresh
from asgireload.supervisor.system import System
from asgireload.supervisor.template_source import StartedTemplate

TEMPLATE_MODULE = "asgireload.development.template.main"


class OriginCache(Protocol):
    """The part of `PreloadCache` that an origin uses; see the methods there."""

    system: System

    def take_record(self, descriptor: int, *, is_whole: bool) -> None: ...

    def take_later_imports(self, descriptor: int) -> None: ...

    def take_checkpoint(
        self, template_id: int, source: ForkSource | None, module: str, descriptors: list[int]
    ) -> None: ...

    def take_differing_variables(
        self, source: ForkSource | None, variables: tuple[str, ...]
    ) -> None: ...

    def distrust(self, source: ForkSource, *, next_too: bool = False) -> None: ...


class CachedOrigin(msgspec.Struct, frozen=True, eq=False):
    """The origin of one template under `--reload`; it implements `TemplateOrigin`."""

    cache: OriginCache
    template_id: int
    request: LoadApp
    source: ForkSource | None
    """The fork source of the template; None: a fresh interpreter."""

    @property
    def is_fork(self) -> bool:
        return self.source is not None

    def start(self, end: socket.socket) -> StartedTemplate:
        if self.source is None:
            return start_fresh(self.cache.system, TEMPLATE_MODULE, end)
        if (standby := self.source.take_standby()) is not None:
            return StartedTemplate(standby.process, standby.channel)
        self.source.channel.post(ForkTemplate(), [end.fileno()])
        return StartedTemplate(process=None)

    def record(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case AppImported():
                self.cache.take_record(descriptors[0], is_whole=message.is_whole)
            case WorkerImported():
                self.cache.take_later_imports(descriptors[0])
            case CheckpointTaken():
                self.cache.take_checkpoint(
                    self.template_id, self.source, message.module, descriptors
                )
            case VariablesDiffer():
                self.cache.take_differing_variables(self.source, message.variables)
            case _:
                raise AssertionError(message)

    def describe(self, loaded: AppLoaded) -> str:
        if not loaded.module_count:
            return ""
        names = ", ".join(loaded.modules)
        more = loaded.module_count - len(loaded.modules)
        what = f"{names} and {more} more module{'' if more == 1 else 's'}" if more else names
        place = self.source.name if self.source is not None else "a fresh interpreter"
        return f"read {what} in {loaded.seconds * 1000:.0f} ms, from {place}"

    def distrust(self, *, next_too: bool = False) -> None:
        if self.source is not None:
            self.cache.distrust(self.source, next_too=next_too)
