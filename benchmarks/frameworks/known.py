"""Where asgireload is meant to behave otherwise than uvicorn, and why. Pure.

A difference that is not in this table is told as one, and `make frameworks` fails.
"""

from .judging import Better

BETTER: tuple[Better, ...] = ()
