"""Who a template is: its channel, its order, what belongs to it, and how it imports the application.

With `--reload` a subclass takes its place (`development/template/session.py`).
"""

import faulthandler
import gc
import os
import time

from asgireload import __version__
from asgireload.app import load_app
from asgireload.asgi import ASGIApp
from asgireload.bytecode import remove_doubtful_bytecode
from asgireload.errors import AppLoadError
from asgireload.failures import Failure
from asgireload.ipc.app_signals import AppSignals, Handler, signal_handlers
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import enlarge_signal_stack
from asgireload.ipc.messages import MESSAGES_VERSION, LoadApp
from asgireload.ipc.quiet_signals import restore_in_forks
from asgireload.ipc.titles import set_title
from asgireload.log import Place, UserConfig, configure_logging, read_user_config
from asgireload.template.hazard_search import open_descriptors
from asgireload.worker.fast_exit import open_files
from asgireload.worker.hooks import WorkerHooks
from asgireload.worker.settings import ConnectionSettings


class Session:
    """`begin()` takes the supervisor's order, `prepare()` makes the process ready to import.

    ChannelClosedError passes through both. Owns the channel and the descriptors of the order until the
    process ends.
    """

    shares_pages = True
    """What is loaded lives as long as several workers that share its memory."""

    def __init__(self, channel: Channel, supervisor: int) -> None:
        """`supervisor`: the pid of our parent."""
        self.channel = channel
        self.supervisor = supervisor
        self.order: LoadApp
        self.scoreboard = -1
        self.fault_file = -1
        self.started_at = time.monotonic()
        self.stage = "directory"
        self.app_dir = ""
        """Resolved once: a symlink that moves later must not lead a worker of this generation elsewhere."""
        self.log_config: UserConfig | None = None
        self.settings: ConnectionSettings | None = None
        """What workers serve with, once the application was imported."""
        self.descriptors: frozenset[int] = frozenset()
        """Those that were open before anything of the application's was imported."""
        self.inherited: frozenset[str] = frozenset()
        """Likewise, by what they are called in /proc."""
        self.handlers: dict[int, Handler] = {}
        """Handlers of signals before anything of the application's was imported."""
        self.signals = AppSignals()
        """What the application has set about signals while it was imported."""
        self.renewed: tuple[int, ...] = ()
        """Descriptors that the import has opened and of which each worker gets its own."""
        self.is_loaded = False
        """Workers can be forked."""
        self.has_forked = False
        self.is_stand_in = False
        """What is loaded is not the application, but says why that cannot be had."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def begin(self) -> None:
        """Take the order, and be its process."""
        self._receive_order()
        enlarge_signal_stack()

    def _receive_order(self) -> None:
        message, (self.scoreboard, self.fault_file) = self.channel.receive()
        assert isinstance(message, LoadApp)
        self.order = message
        self.started_at = time.monotonic()
        faulthandler.enable(self.fault_file)
        set_title("template", self.order.name, generation=self.order.generation)

    def prepare(self) -> None:
        """Set up directory, logging and environment. Raise LogConfigError or AppLoadError."""
        config = self.order.config
        self.stage = "version"
        if self.order.messages_version != MESSAGES_VERSION:
            raise AppLoadError(
                f"asgireload {__version__}, which is installed now, cannot be used with the running supervisor: it"
                f" expects version {MESSAGES_VERSION} of the messages between processes, and the supervisor sends"
                f" version {self.order.messages_version}; restart the server"
            )
        self.stage = "directory"
        enter_directory(self.order.directory, config.app_dir)
        self.stage = "logging"
        self.app_dir = os.path.realpath(config.app_dir or ".")
        self.descriptors = open_descriptors()
        self.inherited = frozenset(file.link for file in open_files())
        self._configure_logging()
        self.stage = "import"
        restore_in_forks()
        self.handlers = signal_handlers()
        if config.env_file is not None:
            load_env_file(config.env_file)

    # What a subclass does otherwise.

    def import_app(self) -> ASGIApp:
        """Import the application. Whatever its code raises passes through."""
        # What is ours is no garbage, and need not be looked through while the application is imported.
        gc.freeze()
        config = self.order.config
        return load_app(config.app, factory=config.factory, app_dir=self.app_dir)

    def accepts_import(self) -> bool:
        """Return whether workers may be forked from what was imported. False: the supervisor lets this template
        go and starts another one."""
        return True

    def stand_in(self, failure: Failure, error: BaseException | None = None) -> ASGIApp | None:
        """Return what workers serve instead of an application that cannot be loaded; None: nothing.

        `error` is what the failure tells of; None when a former generation has failed.
        """
        return None

    def read_modules(self) -> list[str]:
        """Return the application's modules that were read for this load, in order; empty when nobody looked."""
        return []

    def before_command(self) -> None:
        """The template is about to wait for a command."""

    def worker_hooks(self) -> WorkerHooks | None:
        """Return what a worker that is forked now does beside serving."""
        return None

    def log_place(self) -> Place:
        """Return how the template's lines name it."""
        return Place("template", generation=self.order.generation, tag="template")

    def _configure_logging(self) -> None:
        """Set up logging as --log-config says. Raise LogConfigError.

        Handlers of the user may start threads or open connections. Where workers do not share the import
        they do not share these either: each applies the file by itself.
        """
        config = self.order.config
        if config.log_config is not None:
            self.log_config = read_user_config(config.log_config)
            # Classes that it names are the user's code.
            remove_doubtful_bytecode(self.app_dir)
        configure_logging(
            config,
            self.log_place(),
            self.log_config if self.order.preload else None,
            import_from=self.app_dir,
        )


def enter_directory(directory: str, app_dir: str) -> None:
    """Change into the directory in which the server was started, if that can be, or if the application is there.

    Raise AppLoadError. An application in an absolute directory does without: it is then where the supervisor
    is, as its first generation was.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        if os.path.isabs(app_dir):
            return
        raise AppLoadError(
            f"the directory {directory}, in which the server was started, cannot be entered"
            f" ({error.strerror}), and the application is looked for there: make it anew, or start the server"
            " with --app-dir and an absolute path"
        ) from error


def load_env_file(path: str) -> None:
    """Put the variables of the file into the environment. Raise AppLoadError when there is none."""
    from dotenv import load_dotenv  # an extra: loaded only when asked for

    if not os.path.isfile(path):
        raise AppLoadError(f"--env-file {path}: no such file")
    load_dotenv(path)
