"""Decides which exceptions of an application only mean that its client has left.

`send` raises ClientDisconnectedError when the client has left (ASGI HTTP message format, "Disconnected Client").
The application then ends with this exception or with another: frameworks raise exceptions of their own because of
it, and task groups put it into exception groups. None of these is an error of the application. Every other
exception is, whether the client is still there or not.
"""

import asyncio
import traceback

from asgireload.errors import ClientDisconnectedError

MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Exceptions that mistakes in code raise. No framework raises them because the client has left."""


def application_error(error: BaseException) -> BaseException | None:
    """Return `error`, or None if it only means that the client has left.

    For an exception group, return a group of those exceptions that are errors of the application.
    """
    return _own_part(error, set())


def _own_part(error: BaseException, seen: set[int]) -> BaseException | None:
    """Implement `application_error`. `seen`: ids of the groups being examined, since chains may have cycles."""
    if not isinstance(error, BaseExceptionGroup):
        return None if _is_departure(error, seen) else error
    if id(error) in seen:
        return error
    seen.add(id(error))
    own = [part for inner in error.exceptions if (part := _own_part(inner, seen)) is not None]
    seen.discard(id(error))
    if len(own) == len(error.exceptions):
        # No member is a departure; a departure that was handled when the group was raised changes nothing.
        return error
    # The task group has cancelled its other tasks because of the task whose `send` was refused.
    own = [part for part in own if not isinstance(part, asyncio.CancelledError)]
    if not own:
        return None
    rest = error.derive(own)
    rest.__traceback__ = error.__traceback__
    rest.__cause__, rest.__context__ = error.__cause__, error.__context__
    return rest


def _is_departure(error: BaseException, seen: set[int]) -> bool:
    """Return whether an exception that is not a group was raised because `send` was refused."""
    link: BaseException | None = error
    passed: set[int] = set()
    while link is not None and id(link) not in passed:
        if isinstance(link, ClientDisconnectedError):
            return True
        if isinstance(link, BaseExceptionGroup):
            return _own_part(link, seen) is None
        passed.add(id(link))
        if link.__cause__ is not None:
            link = link.__cause__
        elif _may_pass_on(link):
            link = link.__context__
        else:
            return False
    return False


def _may_pass_on(error: BaseException) -> bool:
    """Return whether `error`, raised while another exception was handled, was raised in place of that one.

    It was if the function that has caught the other exception has raised it, as frameworks do. An exception of a
    function that was called to clean up is an error of its own.
    """
    if isinstance(error, OSError):
        if not isinstance(error, ConnectionError):
            return False
    elif not isinstance(error, Exception) or isinstance(error, MISTAKES):
        return False
    context = error.__context__
    raised_in = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        raised_in = frame
    return (
        raised_in is None
        or context is None
        or any(frame is raised_in for frame, _ in traceback.walk_tb(context.__traceback__))
    )


def let_go(error: asyncio.CancelledError) -> None:
    """Clear the variables of the frames that a cancellation has ended.

    A task group of anyio keeps the cancellation of a task in a frame to which the traceback refers. Until the
    garbage collector runs, which may be never, that cycle keeps the sender alive: a generator whose `finally`
    returns a database connection to its pool, for example.
    """
    traceback.clear_frames(error.__traceback__)
