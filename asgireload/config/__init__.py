"""Configuration: the option table, the sources it is read from, and the frozen result."""

from asgireload.config.options import Config

__all__ = ["Config"]
