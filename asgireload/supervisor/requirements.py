"""What a configuration needs that it cannot bring: packages it asks for by name, and the right surroundings."""

from collections.abc import Mapping
from importlib.util import find_spec

from asgireload.config import Config
from asgireload.errors import StartupError


def check_requirements(config: Config) -> None:
    """Raise StartupError naming the option and the package that it needs."""
    for wanted, option, package, module in (
        (config.loop == "uvloop", "--loop uvloop", "uvloop", "uvloop"),
        (config.http == "httptools", "--http httptools", "httptools", "httptools"),
        (config.http == "h11", "--http h11", "h11", "h11"),
        (config.ws == "wsproto", "--ws wsproto", "wsproto", "wsproto"),
        (
            config.reload and config.reload_watcher == "watchfiles",
            "--reload-watcher watchfiles",
            "watchfiles",
            "watchfiles",
        ),
        (config.env_file is not None, "--env-file", "python-dotenv", "dotenv"),
    ):
        if wanted and find_spec(module) is None:
            raise StartupError(
                f"{option} needs the package {package}: pip install 'asgireload[standard]'"
            )


def looks_like_production(config: Config, environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether --reload is most likely there by mistake: a service manager runs this, or several workers are
    served without a terminal. `is_terminal`: somebody may read the log while it is written."""
    is_managed = bool(environ.get("NOTIFY_SOCKET")) or config.pid_file is not None
    return config.reload and (is_managed or (config.workers > 1 and not is_terminal))
