"""The packages that options of a configuration need."""

from importlib.util import find_spec

from asgireload.config import Config
from asgireload.errors import StartupError


def check_requirements(config: Config) -> None:
    """Raise StartupError, naming the option and the package, when a package that an option needs is missing."""
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
