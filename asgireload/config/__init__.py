"""Configuration: the option table, the sources that values are read from, and the frozen result."""

from asgireload.config.config import Loaded, config_from_keywords, load_config, render_config
from asgireload.config.options import OPTIONS, Config, Option
from asgireload.config.sources import FlagValue, place_of, working_directory

__all__ = [
    "OPTIONS",
    "Config",
    "FlagValue",
    "Loaded",
    "Option",
    "config_from_keywords",
    "load_config",
    "place_of",
    "render_config",
    "working_directory",
]
