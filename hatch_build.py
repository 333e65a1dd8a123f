"""Compile the modules that run for every request, where that is possible.

mypyc makes C extensions of them; the sources stay what they are and run as they are where they cannot be
compiled. A wheel is compiled unless ASGIRELOAD_COMPILE=0 says otherwise, or there is no C compiler: then it
is a pure one, and the build says why. With ASGIRELOAD_COMPILE=1 a failure to compile is an error. Editable
installations are never compiled: what is edited is to run.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "draining.py",
    "http/clock.py",
    "http/drain_state.py",
    "http/eager_start.py",
    "http/eager_step.py",
    "http/endpoints.py",
    "http/event_stream.py",
    "http/exchange.py",
    "http/late_heads.py",
    "http/live.py",
    "http/messages.py",
    "http/pace.py",
    "http/request.py",
    "http/response_stream.py",
    "http/scope.py",
    "http/server.py",
    "http/timer_wheel.py",
    "http1/chunked.py",
    "http1/connection.py",
    "http1/connection_state.py",
    "http1/head_cache.py",
    "http1/parser.py",
    "http1/parsers.py",
    "http1/reader.py",
    "http1/response_stream.py",
    "http1/resuming.py",
    "http1/timeouts.py",
    "http1/wire.py",
    "http1/write_scheduling.py",
    "http1/writer.py",
    "ipc/scoreboard.py",
    "websocket/connection.py",
    "websocket/deflate.py",
    "websocket/drain_close.py",
    "websocket/frames.py",
    "websocket/handshake.py",
    "websocket/keep_alive.py",
    "websocket/messages.py",
    "websocket/receive_queue.py",
    "websocket/session.py",
    "websocket/sessions.py",
    "websocket/stalling.py",
    "websocket/states.py",
    "worker/accept_balance.py",
    "worker/acceptor.py",
    "worker/connecting.py",
    "worker/inline_serving.py",
    "worker/protocols.py",
)
PACKAGE = "asgireload"
SCRIPT = """
import sys
from mypyc.build import mypycify
from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

# The types were checked before; what is not compiled is taken as it is, and may lack its dependencies here.
options = ["--follow-imports=silent", "--ignore-missing-imports"]
modules = mypycify([*options, *sys.argv[1:]], opt_level="3", group_name="asgireload")
# Nobody else calls or replaces our functions: so they may be called directly, and put where they are called.
for module in modules:
    module.extra_compile_args += ["-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt"]
source = "asgireload/websocket/_masking.c"
modules.append(Extension("asgireload.websocket._masking", [source], extra_compile_args=["-O3"]))
distribution = Distribution({"name": "asgireload", "ext_modules": modules})
command = build_ext(distribution)
command.inplace = True
command.ensure_finalized()
command.run()
"""


class CustomBuildHook(BuildHookInterface):
    """Adds the compiled modules to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("ASGIRELOAD_COMPILE", "auto")
        if self.target_name != "wheel" or version == "editable" or wish == "0":
            return
        try:
            compiled = self._compile()
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stdout", None) or str(error)
            if wish == "1":
                raise SystemExit(f"asgireload could not be compiled:\n{reason}") from error
            self.app.display_warning(f"asgireload is installed uncompiled:\n{reason[-2000:]}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in compiled:
            build_data["force_include"][str(path)] = str(path.relative_to(self._place))

    def _compile(self) -> list[Path]:
        """Compile a copy of the package, so that no extension stays beside the sources."""
        self._place = Path(tempfile.mkdtemp(prefix="asgireload-build-"))
        shutil.copytree(Path(self.root) / PACKAGE, self._place / PACKAGE)
        sources = [f"{PACKAGE}/{module}" for module in MODULES]
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", SCRIPT, *sources],
            cwd=self._place,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        return [path for path in self._place.rglob(f"*{suffix}") if "build" not in path.parts]

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        place = getattr(self, "_place", None)
        if place is not None:
            shutil.rmtree(place)
