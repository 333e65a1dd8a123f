"""Who a template is: its channel, its order, and what belongs to it. It changes when a bookmark is woken.

Everything here can be taken on anew in the middle of an import, by a process that was forked there.
"""

import faulthandler
import importlib
import os
import signal
import time

from asgireload.bytecode import remove_doubtful_bytecode
from asgireload.development.template.import_watch import ImportWatch
from asgireload.development.template.page_copies import copy_pages
from asgireload.errors import AppLoadError
from asgireload.http.context import HttpSettings
from asgireload.ipc.app_signals import AppSignals, Handler, signal_handlers
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import enlarge_signal_stack, signal_on_parent_death
from asgireload.ipc.messages import LoadApp, TemplateStarted
from asgireload.ipc.quiet_signals import restore_in_forks
from asgireload.ipc.titles import set_title
from asgireload.libraries import Places, application_places
from asgireload.log import Place, UserConfig, configure_logging, keep_logging, read_user_config
from asgireload.template.hazard_search import open_descriptors
from asgireload.worker.ending import open_files


class Session:
    """`begin()` takes the supervisor's order, `prepare()` makes the process ready to import.

    ChannelClosedError passes through both. Owns the channel and the descriptors of the order until the
    process ends.
    """

    def __init__(self, channel: Channel, supervisor: int, *, is_forked: bool = False) -> None:
        """`supervisor`: the process number of our parent. `is_forked`: the supervisor does not know ours."""
        self.channel = channel
        self.supervisor = supervisor
        self._is_forked = is_forked
        self.order: LoadApp
        self.scoreboard = -1
        self.fault_file = -1
        self.started_at = time.monotonic()
        self.stage = "directory"
        self.app_dir = ""
        """Resolved once: a symlink that moves later must not lead a worker of this generation elsewhere."""
        self.log_config: UserConfig | None = None
        self.settings: HttpSettings | None = None
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
        self.environment: dict[str, str] = {}
        """Likewise."""
        self.places: Places
        self.watch: ImportWatch | None = None
        """What was seen of the import, until it has been told; development only."""
        self.is_loaded = False
        """Workers can be forked."""
        self.has_forked = False
        self.is_stand_in = False
        """What is loaded is not the application, but says why that cannot be had."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def begin(self) -> None:
        """Take the order, and be its process. One that was forked may wait for it for a long time."""
        if self._is_forked:
            self._become_child()
            self.channel.send(TemplateStarted(os.getpid()))
            copy_pages(self.channel.has_message)
        message, (self.scoreboard, self.fault_file) = self.channel.receive()
        assert isinstance(message, LoadApp)
        self.order = message
        self.started_at = time.monotonic()
        faulthandler.enable(self.fault_file)
        if self._is_forked:
            # What finders remember of directories was seen before this process fell asleep.
            importlib.invalidate_caches()
        else:
            enlarge_signal_stack()
        set_title("template", self.order.name, generation=self.order.generation)

    def prepare(self) -> None:
        """Set up directory, logging and environment. Raise LogConfigError or AppLoadError."""
        config = self.order.config
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
        if config.reload:
            self.places = application_places(config)
        if config.env_file is not None:
            load_env_file(config.env_file)
        self.environment = dict(os.environ)

    def begin_again(self, channel: Channel) -> None:
        """Be another template, forked in the middle of the import of this one."""
        former = (self.scoreboard, self.fault_file)
        self.channel = channel
        self._is_forked = True
        self.begin()
        for descriptor in former:
            os.close(descriptor)
        self.descriptors |= {channel.fileno(), self.scoreboard, self.fault_file}
        keep_logging(self.order.config, self._place())

    def _become_child(self) -> None:
        """Be a child of the supervisor's, forked by another child of it with all signals blocked."""
        signal_on_parent_death(signal.SIGKILL)
        if os.getppid() != self.supervisor:
            os._exit(1)  # it died before the kernel knew whom to tell
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _place(self) -> Place:
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
            self._place(),
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
