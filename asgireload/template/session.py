"""The session of a template: its channel, its order and its state, and how it imports the application.

`--reload` uses a subclass (`development/template/session.py`).
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
    """The state of one template.

    `begin()` receives the supervisor's order, and `prepare()` prepares the process for the import; both raise
    ChannelClosedError. The session owns the channel and the descriptors of the order until the process ends.
    """

    shares_pages = True
    """Several workers share the pages of the loaded application for long, so a collection before the fork pays."""

    def __init__(self, channel: Channel, supervisor: int) -> None:
        """`supervisor`: the pid of the supervisor, which is the parent process."""
        self.channel = channel
        self.supervisor = supervisor
        self.order: LoadApp
        self.scoreboard = -1
        self.fault_file = -1
        self.started_at = time.monotonic()
        self.stage = "directory"
        self.app_dir = ""
        """Resolved once: a symlink that changes later must not make workers of one generation load different
        code."""
        self.log_config: UserConfig | None = None
        self.settings: ConnectionSettings | None = None
        """Settings of the workers' connections; None until the application has been imported."""
        self.descriptors: frozenset[int] = frozenset()
        """Descriptors that were open before any code of the application was imported."""
        self.inherited: frozenset[str] = frozenset()
        """Targets of the /proc/self/fd links of files that were open before any code of the application was
        imported."""
        self.handlers: dict[int, Handler] = {}
        """Signal handlers before any code of the application was imported."""
        self.signals = AppSignals()
        """Signal handlers and timers that the application has set during its import."""
        self.renewed: tuple[int, ...] = ()
        """Descriptors that the import has opened, and that each worker opens again for itself."""
        self.is_loaded = False
        """Workers can be forked."""
        self.has_forked = False
        self.is_stand_in = False
        """The loaded application is one that shows why the real one could not be loaded."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def begin(self) -> None:
        """Receive the order, and set up crash reports and the process title for it."""
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

    # Methods that a subclass overrides.

    def import_app(self) -> ASGIApp:
        """Import the application and return it. Exceptions of its code pass through."""
        # Objects of the server are no garbage; the collector need not traverse them during the import.
        gc.freeze()
        config = self.order.config
        return load_app(config.app, factory=config.factory, app_dir=self.app_dir)

    def accepts_import(self) -> bool:
        """Return whether workers may be forked after this import. False: the supervisor releases this template and
        starts another one."""
        return True

    def stand_in(self, failure: Failure, error: BaseException | None = None) -> ASGIApp | None:
        """Return the application that workers serve in place of one that cannot be loaded; None: there is none.

        `error` is the exception behind `failure`; None when a former generation has failed.
        """
        return None

    def read_modules(self) -> list[str]:
        """Return the application's modules that this load has read, in order; empty when they are not recorded."""
        return []

    def before_command(self) -> None:
        """Called each time before the template waits for a command."""

    def worker_hooks(self) -> WorkerHooks | None:
        """Return the hooks of a worker that is forked now; None: no hooks."""
        return None

    def log_place(self) -> Place:
        """Return the place that the log lines of this template name."""
        return Place("template", generation=self.order.generation, tag="template")

    def _configure_logging(self) -> None:
        """Set up logging as --log-config says. Raise LogConfigError.

        The user's handlers may start threads or open connections, so the file is applied here only when the
        application is preloaded; otherwise each worker applies it.
        """
        config = self.order.config
        if config.log_config is not None:
            self.log_config = read_user_config(config.log_config)
            # Classes that the file names may be the user's code.
            remove_doubtful_bytecode(self.app_dir)
        configure_logging(
            config,
            self.log_place(),
            self.log_config if self.order.preload else None,
            import_from=self.app_dir,
        )


def enter_directory(directory: str, app_dir: str) -> None:
    """Change into `directory`, in which the server was started.

    Raise AppLoadError when that fails, unless `app_dir` is absolute: the application does not need the directory
    then, and the process stays in the supervisor's.
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
    """Put the variables of the file into the environment. Raise AppLoadError when the file does not exist."""
    from dotenv import load_dotenv  # an extra: loaded only when asked for

    if not os.path.isfile(path):
        raise AppLoadError(f"--env-file {path}: no such file")
    load_dotenv(path)
