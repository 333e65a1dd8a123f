"""Find and import the user's application, and format the user's errors without frames of asgireload.

Used in templates and workers only, since importing the application runs user code. Exceptions of that code pass
through unchanged; a fault of the import string or the attribute raises AppLoadError.
"""

import importlib
import inspect
import logging
import os
import re
import sys
import traceback
from types import FunctionType, ModuleType
from typing import Any, cast

from asgireload.asgi import ASGIApp
from asgireload.bytecode import remove_doubtful_bytecode
from asgireload.errors import AppLoadError, closest
from asgireload.frameworks import import_the_rest

_IMPORT_STRING = re.compile(r"(?P<module>[^\s:()]+):(?P<attribute>[^\s:()]+)(?P<call>\(\))?")
_MODULE = re.compile(r"[^\s.:/]+(\.[^\s.:/]+)*")
_NAMED_APPLICATIONS = 3
"""Most applications that an error suggests in place of a missing one."""
_OUR_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_IMPORT_MACHINERY = ("<frozen importlib", importlib.__file__)
_logger = logging.getLogger("asgireload.error")


def check_import_string(import_string: str, *, usual: str = "app") -> None:
    """Raise AppLoadError unless `import_string` has the form `<module>:<attribute>` or `<module>:<factory>()`.

    The text suggests a correction for a path in place of a module, a dot in place of the colon, or a module without
    an attribute; `usual` is the usual name of the attribute, or empty.
    """
    match = _IMPORT_STRING.fullmatch(import_string)
    if match is not None and _MODULE.fullmatch(match["module"]):
        return
    raise AppLoadError(
        f'Import string "{import_string}" must be in format "<module>:<attribute>".'
        f"{_suggest_import_string(import_string, usual)}"
    )


def _suggest_import_string(given: str, usual: str) -> str:
    """Return ` Did you mean …?` for a known mistake, else an empty text. Pure."""
    module, colon, attribute = given.partition(":")
    directory = ""
    if "/" in module:
        path = os.path.normpath(module)
        if path.startswith(("/", "..")):
            directory, path = os.path.split(path)
        module = path.replace("/", ".")
    is_file = "/" in given or module.endswith(".py")
    module = module.removesuffix(".py").lstrip(".")
    if not colon:
        before, dot, last = module.rpartition(".")
        # A path contains no attribute.
        module, attribute = (before, last) if dot and not is_file else (module, usual)
    meant = f"{module}:{attribute}"
    match = _IMPORT_STRING.fullmatch(meant)
    if match is None or not _MODULE.fullmatch(match["module"]):
        return ""
    if directory:
        return f' Did you mean "{meant}" with --app-dir {directory}?'
    return f' Did you mean "{meant}"?'


def load_app(
    import_string: str, *, factory: bool = False, app_dir: str = "", looks_for_bytecode: bool = True
) -> ASGIApp:
    """Import the application and return it.

    `app_dir` (or the working directory) becomes `sys.path[0]` with its symbolic links resolved: a generation that
    began in one release goes on importing from it after a `current` link has changed. `factory` calls the
    attribute, as `<module>:<factory>()` does. `looks_for_bytecode` removes doubtful bytecode below `app_dir` first;
    false when the caller removes it during the import. Raise AppLoadError when the module or attribute does not
    exist or is not an ASGI 3 application; exceptions of the user's code pass unchanged.
    """
    app = load_attribute(import_string, app_dir, looks_for_bytecode=looks_for_bytecode, is_app=True)
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
    elif inspect.iscoroutine(app):
        app.close()
        raise AppLoadError(
            f"Attribute {name} is a coroutine: an async function was called without await."
            " Make the application in a plain function."
        )
    check_asgi3(app, name)
    import_the_rest()
    return cast("ASGIApp", app)


def load_attribute(
    import_string: str,
    app_dir: str = "",
    *,
    looks_for_bytecode: bool = True,
    is_app: bool = False,
) -> Any:
    """Import the attribute that `<module>:<attribute>` names, as `load_app` does, and return it without a check.

    `is_app`: the attribute should be an application, so an error suggests other applications of the module. Raise
    AppLoadError when there is no such module or attribute; exceptions of the user's code pass unchanged.
    """
    check_import_string(import_string)
    match = _IMPORT_STRING.fullmatch(import_string)
    assert match is not None
    directory = os.path.realpath(app_dir or os.getcwd())
    if not os.path.isdir(directory):
        raise AppLoadError(f"--app-dir {app_dir}: there is no such directory.")
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    if looks_for_bytecode:
        remove_doubtful_bytecode(directory)
    module = _import(match["module"], match["attribute"] + (match["call"] or ""), directory)
    return _find_attribute(module, match["module"], match["attribute"], is_app=is_app)


def check_asgi3(app: Any, name: str) -> None:
    """Raise AppLoadError, with what `app` looks like, unless it can be called as an ASGI 3 application.

    `name` is the name of the attribute in the error.
    """
    if isinstance(app, ModuleType):
        offered = _offer([f"{app.__name__}:{found}" for found in _applications(app)])
        raise AppLoadError(f"Attribute {name} is a module, not an application.{offered}")
    if not callable(app):
        raise AppLoadError(f"Attribute {name} is not callable: it is of type {_type_name(app)}.")
    if _takes(app, 3):
        return
    if inspect.iscoroutinefunction(app):
        raise AppLoadError(
            f"Attribute {name} is an async function that cannot be called with (scope, receive, send),"
            f" as ASGI 3 calls it: it is {app.__name__}{inspect.signature(app)}."
            " A factory must be a plain function."
        )
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
    """Return the exception as one line."""
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called"
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines() or [""]
    # The text of a syntax error begins with its place. Any other begins with the message, and may continue
    # with advice, such as notes or the address of a manual.
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
    """Return whether an exception was raised because no event loop is running."""
    return any(
        type(known).__name__ in _NEEDS_LOOP_TYPES
        or (isinstance(known, RuntimeError) and str(known).startswith(_NEEDS_LOOP))
        for known in _chain(error)
    )


def refuses_running_loop(error: BaseException) -> bool:
    """Return whether an exception was raised because code starts an event loop while one is running."""
    return any(
        isinstance(known, RuntimeError) and any(text in str(known) for text in _REFUSES_LOOP)
        for known in _chain(error)
    )


def place_of_failure(error: BaseException) -> str:
    """Return file and line of the innermost frame that is not of asgireload or the import machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_hidden(frame.filename)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "at an unknown place"


def _chain(error: BaseException) -> list[BaseException]:
    """Return the exception with its causes, contexts and members of groups."""
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
    """Split the reason that an application gives for a failed start into a line and a traceback.

    Frameworks give a whole traceback as the reason; the line is the first one after its last frame.
    """
    # Leading blanks are kept: the indentation of the first line shows whether it is a frame.
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
    # A truncated reason may end with a frame.
    return lines[min(after_frames, len(lines) - 1)].strip(), reason


def format_user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of asgireload and of the import machinery.

    An exception without other frames keeps those of asgireload.
    """
    report = traceback.TracebackException.from_exception(error)
    _drop_our_frames(report, set())
    return "".join(report.format())


def _import(module_name: str, attribute: str, directory: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # AppLoadError only when the module itself or its package is missing. A missing dependency of the
        # module is an error of the user's code, whose traceback is shown.
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(missing + "."):
            raise
        text = f'Could not import module "{module_name}".'
        near = _meant_module(module_name, attribute, directory)
        hint = f' Did you mean "{near}"?' if near else f" It was looked for in {directory} first."
        raise AppLoadError(text + hint) from None


def _meant_module(module_name: str, attribute: str, directory: str) -> str | None:
    """Return a similar module name; the whole import string when the module was given with `.py`."""
    if module_name.endswith(".py"):
        return f"{module_name.removesuffix('.py')}:{attribute}"
    package, dot, name = module_name.rpartition(".")
    names = _module_names(os.path.join(directory, *package.split(".")))
    near = closest(name, names)
    return f"{package}{dot}{near}" if near else None


def _module_names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [
                entry.name.removesuffix(".py")
                for entry in entries
                if not entry.name.startswith((".", "__"))
                and (entry.name.endswith(".py") or entry.is_dir())
            ]
    except OSError:
        # Only the suggestion is missing then.
        return []


def _find_attribute(module: Any, module_name: str, attribute: str, *, is_app: bool) -> Any:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppLoadError(
                f'Attribute "{attribute}" not found in module "{module_name}".'
                f"{_suggest_attribute(found, module_name, part, is_app=is_app)}"
            ) from None
    return found


def _suggest_attribute(found: Any, module_name: str, part: str, *, is_app: bool) -> str:
    """Return a suggestion: a similar name, of an application first, or the applications in the module."""
    applications = _applications(found) if is_app and isinstance(found, ModuleType) else []
    near = closest(part, applications)
    if near is None and applications:
        return _offer([f"{module_name}:{name}" for name in applications])
    near = near or closest(part, (name for name in dir(found) if not name.startswith("_")))
    return f' Did you mean "{near}"?' if near else ""


def _offer(import_strings: list[str]) -> str:
    if not import_strings:
        return ""
    shown = " or ".join(f'"{text}"' for text in import_strings[:_NAMED_APPLICATIONS])
    return f" Did you mean {shown}?"


def _applications(module: ModuleType) -> list[str]:
    """Return the names of objects that are certainly ASGI 3 applications: async, with three arguments."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_application(value, module.__name__)
    ]


def _is_application(value: Any, module_name: str) -> bool:
    if type(value) is FunctionType:
        # An imported function is a helper of a library.
        return (
            value.__module__ == module_name
            and inspect.iscoroutinefunction(value)
            and tuple(inspect.signature(value).parameters) == ("scope", "receive", "send")
        )
    # Looked up on the type: the object may be a proxy that raises when its attributes are read now.
    return (
        any(inspect.iscoroutinefunction(vars(kind).get("__call__")) for kind in type(value).__mro__)
        and _takes(value, 3)
        and not _takes(value, 2)
    )


def _call_factory(factory: Any, name: str) -> object:
    if not callable(factory):
        raise AppLoadError(f"Factory {name} is not callable: it is of type {_type_name(factory)}.")
    if inspect.iscoroutinefunction(factory) and not _takes(factory, 3):
        raise AppLoadError(f"Factory {name} is an async function; it must be a plain function.")
    if not _takes(factory, 0):
        if _takes(factory, 3):
            raise AppLoadError(
                f"Factory {name} is the application itself, which needs no call: leave out the () or --factory."
            )
        raise AppLoadError(f"Factory {name} must be callable without arguments.")
    app = factory()
    if inspect.iscoroutine(app):
        app.close()
        raise AppLoadError(f"Factory {name} returns a coroutine; it must be a plain function.")
    return app


def _is_plain_factory(app: object) -> bool:
    return (
        inspect.isfunction(app)
        and not inspect.iscoroutinefunction(app)
        and _takes(app, 0)
        and not _takes(app, 3)
    )


def _takes(call: Any, count: int) -> bool:
    """Return whether `call` accepts `count` positional arguments; true when the signature is unknown."""
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
    """Return whether a frame of this file belongs to asgireload or the import machinery."""
    return filename.startswith((_OUR_DIRECTORY, *_IMPORT_MACHINERY))
