"""Which exceptions of an application only say that its client has left.

`send` raises ClientDisconnectedError for a client that is gone (ASGI HTTP message format, "Disconnected Client").
It comes back as it is, or wrapped: frameworks raise exceptions of their own because of it, and task groups put it
into exception groups. That is no error of the application. What else an application raises is one, whether the
client is still there or not.
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
"""Raised by mistakes in code that handles the client's departure, and by nobody to pass it on."""


def application_error(error: BaseException) -> BaseException | None:
    """Return what of `error` is the application's own, or None when all of it is a client that has left.

    Of an exception group only a part may be.
    """
    return _own_part(error, set())


def _own_part(error: BaseException, seen: set[int]) -> BaseException | None:
    """`seen`: identities of exceptions that are being looked at. Chains and groups may lead back to themselves."""
    if not isinstance(error, BaseExceptionGroup):
        return None if _is_departure(error, seen) else error
    if id(error) in seen:
        return error
    seen.add(id(error))
    own = [part for inner in error.exceptions if (part := _own_part(inner, seen)) is not None]
    seen.discard(id(error))
    if len(own) == len(error.exceptions):
        # A departure that was handled while the group was raised explains none of its members.
        return error
    # The group's other tasks were cancelled because of the one that was refused.
    own = [part for part in own if not isinstance(part, asyncio.CancelledError)]
    if not own:
        return None
    rest = error.derive(own)
    rest.__traceback__ = error.__traceback__
    rest.__cause__, rest.__context__ = error.__cause__, error.__context__
    return rest


def _is_departure(error: BaseException, seen: set[int]) -> bool:
    """Whether the exception, which is no group, was raised because `send` was refused."""
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
    """Whether an exception that was raised while another was handled stands for that one.

    It does when it was raised by the code that has caught the other, as frameworks do. What fails in a function
    that this code has called, to clean up, is an error of its own.
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

    A task group of anyio keeps the cancellation of a task in a frame that its traceback refers to. Until the
    garbage collector comes, which may be never, that keeps what sent: a generator whose `finally` gives back a
    connection to a database, say.
    """
    traceback.clear_frames(error.__traceback__)
