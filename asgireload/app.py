"""Find and import the user's application, and show the user's errors without our own frames.

Runs in templates and workers only: importing the application runs user code. Whatever that code raises
passes through unchanged; what is wrong with the import string or the attribute is an AppLoadError.
"""

import importlib
import inspect
import logging
import os
import re
import sys
import traceback
from typing import Any, cast

from asgireload.asgi import ASGIApp
from asgireload.bytecode import remove_doubtful_bytecode
from asgireload.errors import AppLoadError, closest
from asgireload.frameworks import import_the_rest

_IMPORT_STRING = re.compile(r"(?P<module>[^\s:()]+):(?P<attribute>[^\s:()]+)(?P<call>\(\))?")
_OUR_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_IMPORT_MACHINERY = ("<frozen importlib", importlib.__file__)
_logger = logging.getLogger("asgireload.error")


def check_import_string(import_string: str) -> None:
    """Raise AppLoadError unless it reads `<module>:<attribute>` or `<module>:<factory>()`."""
    if not _IMPORT_STRING.fullmatch(import_string):
        raise AppLoadError(
            f'Import string "{import_string}" must be in format "<module>:<attribute>".'
        )


def load_app(
    import_string: str, *, factory: bool = False, app_dir: str = "", looks_for_bytecode: bool = True
) -> ASGIApp:
    """Import the application and return it.

    `app_dir` (or the working directory) becomes `sys.path[0]` with its symbolic links resolved: a
    generation that began in one release goes on importing from it after a `current` link has moved.
    `factory` calls the attribute, as `<module>:<factory>()` does. Doubtful bytecode below it is removed
    first, unless somebody sees to that while it is imported. Raise AppLoadError when the module or
    attribute does not exist or is not an ASGI 3 application; errors of the user's code pass unchanged.
    """
    app = load_attribute(import_string, app_dir, looks_for_bytecode=looks_for_bytecode)
    match = _IMPORT_STRING.fullmatch(import_string)
    assert match is not None
    name = f'"{match["attribute"]}" in module "{match["module"]}"'
    if factory or match["call"]:
        app = _call_factory(app, name)
    elif _is_plain_factory(app):
        _logger.warning(
            "Attribute %s takes no arguments, so it is taken for a factory and called;"
            " --factory says so without this warning.",
            name,
        )
        app = _call_factory(app, name)
    check_asgi3(app, name)
    import_the_rest()
    return cast("ASGIApp", app)


def load_attribute(
    import_string: str, app_dir: str = "", *, looks_for_bytecode: bool = True
) -> Any:
    """Import what `<module>:<attribute>` names, as `load_app` does, and return it as it is.

    Raise AppLoadError when there is no such module or attribute; errors of the user's code pass unchanged.
    """
    check_import_string(import_string)
    match = _IMPORT_STRING.fullmatch(import_string)
    assert match is not None
    directory = os.path.realpath(app_dir or os.getcwd())
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    if looks_for_bytecode:
        remove_doubtful_bytecode(directory)
    module = _import(match["module"], directory)
    return _find_attribute(module, match["module"], match["attribute"])


def check_asgi3(app: Any, name: str) -> None:
    """Raise AppLoadError, saying what it looks like, unless `app` can be called as ASGI 3 calls."""
    if inspect.iscoroutine(app):
        app.close()
        raise AppLoadError(f"Factory {name} is a coroutine function; it must be a plain function.")
    if not callable(app):
        raise AppLoadError(f"Attribute {name} is not callable: it is of type {_type_name(app)}.")
    if _takes(app, 3):
        return
    if inspect.isclass(app) and not _takes(app, 1):
        raise AppLoadError(f"Attribute {name} is a class; name an instance of it.")
    if _takes(app, 2) and not _takes(app, 1):
        raise AppLoadError(
            f"Attribute {name} looks like a WSGI application (it takes two arguments);"
            " asgireload serves ASGI 3: wrap it in a2wsgi.WSGIMiddleware."
        )
    if _takes(app, 1):
        raise AppLoadError(
            f"Attribute {name} looks like an ASGI 2 application (it takes one argument); asgireload"
            " serves ASGI 3: wrap it in asgiref.compatibility.guarantee_single_callable."
        )
    raise AppLoadError(
        f"Attribute {name} cannot be called with (scope, receive, send), so it is not an ASGI 3"
        " application."
    )


def summarize(error: BaseException) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called"
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines() or [""]
    # A syntax error begins with its place; every other begins with what happened and may go on with
    # advice, such as notes or the address of a manual.
    return lines[-1] if isinstance(error, SyntaxError) else lines[0]


_NEEDS_LOOP = (
    "no running event loop",  # asyncio.get_running_loop(), create_task(), aiohttp.ClientSession() …
    "There is no current event loop",  # asyncio.get_event_loop(), from Python 3.14 on
)
_NEEDS_LOOP_TYPES = {"AsyncLibraryNotFoundError", "NoEventLoopError"}  # sniffio, anyio
_REFUSES_LOOP = (
    "cannot be called from a running event loop",  # asyncio.run(), asyncio.Runner.run()
    "Cannot run the event loop while another loop is running",  # loop.run_until_complete()
    "This event loop is already running",  # the same
    "Already running asyncio in this thread",  # anyio.run()
    "You cannot use AsyncToSync in the same thread as an async event loop",  # asgiref
)


def needs_running_loop(error: BaseException) -> bool:
    """Return whether code failed because no event loop runs where it was called."""
    return any(
        type(known).__name__ in _NEEDS_LOOP_TYPES
        or (isinstance(known, RuntimeError) and str(known).startswith(_NEEDS_LOOP))
        for known in _chain(error)
    )


def refuses_running_loop(error: BaseException) -> bool:
    """Return whether code failed because an event loop runs where it was called, and it starts one itself."""
    return any(
        isinstance(known, RuntimeError) and any(text in str(known) for text in _REFUSES_LOOP)
        for known in _chain(error)
    )


def place_of_failure(error: BaseException) -> str:
    """Return file and line of the innermost frame of the user's code, libraries included, that failed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_hidden(frame.filename)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "at an unknown place"


def _chain(error: BaseException) -> list[BaseException]:
    """Return the exception with those that have led to it, and those that it is a group of."""
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        known = waiting.pop()
        if known is None or id(known) in found:
            continue
        found[id(known)] = known
        waiting += [known.__cause__, known.__context__]
        if isinstance(known, BaseExceptionGroup):
            waiting += known.exceptions
    return list(found.values())


def split_reason(reason: str) -> tuple[str, str]:
    """Split the reason an application gives for a failed start into a line and a traceback.

    Frameworks give their whole traceback; the line is its first behind the last frame.
    """
    # The indentation of the first line says whether it is a frame.
    lines = reason.rstrip().lstrip("\n").splitlines()
    if len(lines) < 2:
        return reason.strip(), ""
    after_frames = 0
    for index, line in enumerate(lines):
        if line.startswith('  File "'):
            after_frames = index + 1
    # The source line of the last frame, and its markers, are indented by four.
    while after_frames < len(lines) - 1 and lines[after_frames].startswith("    "):
        after_frames += 1
    # A reason that was cut off may end with a frame.
    return lines[min(after_frames, len(lines) - 1)].strip(), reason


def format_user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of asgireload and of the import machinery.

    An error that only asgireload's frames could explain keeps them.
    """
    report = traceback.TracebackException.from_exception(error)
    _drop_our_frames(report, set())
    return "".join(report.format())


def _import(module_name: str, directory: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only when the module, or a package around it, is what is missing; a missing dependency of
        # the module is the user's error, with a traceback worth reading.
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(missing + "."):
            raise
        text = f'Could not import module "{module_name}".'
        near = closest(module_name, _module_names(directory))
        hint = f' Did you mean "{near}"?' if near else f" It was looked for in {directory} first."
        raise AppLoadError(text + hint) from None


def _module_names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        # Only a suggestion is lost.
        return []
    return [name.removesuffix(".py") for name in names if not name.startswith(".")]


def _find_attribute(module: Any, module_name: str, attribute: str) -> Any:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = closest(part, dir(found))
            hint = f' Did you mean "{near}"?' if near else ""
            raise AppLoadError(
                f'Attribute "{attribute}" not found in module "{module_name}".{hint}'
            ) from None
    return found


def _call_factory(factory: Any, name: str) -> object:
    if not callable(factory):
        raise AppLoadError(f"Factory {name} is not callable: it is of type {_type_name(factory)}.")
    if not _takes(factory, 0):
        raise AppLoadError(f"Factory {name} must be callable without arguments.")
    return factory()


def _is_plain_factory(app: object) -> bool:
    return inspect.isfunction(app) and _takes(app, 0) and not _takes(app, 3)


def _takes(call: Any, count: int) -> bool:
    """Return whether `call` accepts that many positional arguments; yes when it cannot be known."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _drop_our_frames(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    kept = [frame for frame in report.stack if not is_hidden(frame.filename)]
    is_syntax_error = getattr(report, "lineno", None) is not None
    if kept or is_syntax_error:
        report.stack[:] = kept
    for other in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if other is not None:
            _drop_our_frames(other, seen)


def is_hidden(filename: str) -> bool:
    """Return whether a frame of this file is asgireload's own or the import machinery's."""
    return filename.startswith((_OUR_DIRECTORY, *_IMPORT_MACHINERY))
