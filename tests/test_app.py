import asyncio
import subprocess
import sys
import textwrap

import aiohttp
import anyio
import pytest
from asgiref.sync import async_to_sync

from asgireload.app import (
    check_import_string,
    format_user_traceback,
    load_app,
    load_attribute,
    needs_running_loop,
    refuses_running_loop,
    split_reason,
    summarize,
)
from asgireload.errors import AppLoadError

ASGI = "async def app(scope, receive, send): pass\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write a module and load from it: `project(code)(import_string)`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write(code, name="site_main"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(code))

        def load(import_string=f"{name}:app", **options):
            return load_app(import_string, app_dir=str(tmp_path), **options)

        return load

    yield write
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_an_application_is_found(project):
    assert project(ASGI)().__name__ == "app"


def test_the_attribute_may_be_dotted(project):
    load = project("class holder:\n    async def app(scope, receive, send): pass\n")
    assert load("site_main:holder.app").__name__ == "app"


@pytest.mark.parametrize(("import_string", "factory"), [("create", True), ("create()", False)])
def test_a_factory_is_called(project, import_string, factory):
    load = project(ASGI + "def create(): return app\n")
    assert load(f"site_main:{import_string}", factory=factory).__name__ == "app"


def test_a_function_without_arguments_is_taken_for_a_factory_with_a_warning(project, caplog):
    load = project(ASGI + "def create(): return app\n")
    assert load("site_main:create").__name__ == "app"
    assert "--factory" in caplog.text


@pytest.mark.parametrize(
    "import_string", ["main", "main:", ":app", "main:app:x", "main app", "main:create(1)", ""]
)
def test_an_import_string_needs_its_form(import_string):
    with pytest.raises(AppLoadError, match='must be in format "<module>:<attribute>"'):
        check_import_string(import_string)


def test_a_missing_module_is_named_with_what_comes_near(project):
    load = project(ASGI)
    with pytest.raises(AppLoadError) as caught:
        load("site_mian:app")
    assert str(caught.value) == 'Could not import module "site_mian". Did you mean "site_main"?'


def test_a_missing_package_around_the_module_is_a_missing_module(project):
    load = project(ASGI)
    with pytest.raises(AppLoadError, match=r'Could not import module "nowhere_pkg\.main"'):
        load("nowhere_pkg.main:app")


def test_a_missing_dependency_of_the_module_stays_the_users_error(project):
    load = project("import nowhere_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_dependency"):
        load()


def test_a_missing_attribute_is_named_with_what_comes_near(project):
    load = project(ASGI)
    with pytest.raises(AppLoadError) as caught:
        load("site_main:ap")
    assert str(caught.value) == (
        'Attribute "ap" not found in module "site_main". Did you mean "app"?'
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("app = 5", "not callable: it is of type builtins.int"),
        ("class app:\n    async def __call__(self, scope, receive, send): pass", "is a class"),
        ("class app:\n    def __init__(self, scope): pass", "ASGI 2.*guarantee_single_callable"),
        ("def app(scope): pass", "ASGI 2"),
        ("def app(environ, start_response): pass", "WSGI.*a2wsgi"),
        (
            "async def app(): pass",
            r"async function .* it is app\(\)\. A factory must be a plain function",
        ),
        ("async def app(scope, receive): pass", r"async function .* it is app\(scope, receive\)"),
        (
            "async def make(): pass\napp = make()",
            "is a coroutine: an async function was called without await",
        ),
        ("import json as app", "is a module, not an application"),
        ("def app(a, b, c, d): pass", "cannot be called with"),
    ],
)
def test_what_is_not_asgi_3_is_refused_with_a_way_out(project, code, error):
    with pytest.raises(AppLoadError, match=error):
        project(code)()


@pytest.mark.parametrize(
    "code",
    [
        "class App:\n    async def __call__(self, scope, receive, send): pass\napp = App()",
        "def app(scope, receive, send): return None",
        "def app(*args): return None",
        "import functools\nasync def f(x, scope, receive, send): pass\napp = functools.partial(f, 1)",
        "class app:\n    def __init__(self, scope, receive, send): pass\n    def __await__(self): yield",
    ],
)
def test_every_shape_of_asgi_3_is_taken(project, code):
    assert callable(project(code)())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("./good:app", '"good:app"'),
        ("good.app", '"good:app"'),
        ("good", '"good:app"'),
        ("good.py", '"good:app"'),
        ("pkg/mod:app", '"pkg.mod:app"'),
        ("pkg/mod", '"pkg.mod:app"'),
        ("pkg/mod.py:app", '"pkg.mod:app"'),
        ("pkg/mod.py", '"pkg.mod:app"'),
        ("pkg.mod.app", '"pkg.mod:app"'),
        (".good:app", '"good:app"'),
        ("./src/good.py:make()", '"src.good:make()"'),
        ("/srv/shop/good.py:app", '"good:app" with --app-dir /srv/shop'),
        ("../good:app", '"good:app" with --app-dir ..'),
    ],
)
def test_an_import_string_with_a_path_or_a_dot_is_answered_with_what_was_meant(given, meant):
    with pytest.raises(AppLoadError) as raised:
        check_import_string(given)
    assert str(raised.value) == (
        f'Import string "{given}" must be in format "<module>:<attribute>". Did you mean {meant}?'
    )


@pytest.mark.parametrize("given", ["", ":", ":app", "good:", "a b:c", "/:app", "..", "a:b:c", "()"])
def test_an_import_string_that_means_nothing_gets_no_suggestion(given):
    with pytest.raises(AppLoadError) as raised:
        check_import_string(given)
    assert str(raised.value).endswith('must be in format "<module>:<attribute>".')


def refusal(load, *args, **options):
    with pytest.raises(AppLoadError) as raised:
        load(*args, **options)
    return str(raised.value)


def test_an_application_of_flask_is_answered_with_the_wrapper(project):
    pytest.importorskip("flask")
    load = project("import flask\napp = flask.Flask('shop')")
    assert "a2wsgi.WSGIMiddleware" in refusal(load)


def test_a_module_with_its_ending_is_answered_with_the_import_string(project):
    assert 'Did you mean "site_main:app"?' in refusal(project(ASGI), "site_main.py:app")
    assert 'Did you mean "site_main:app()"?' in refusal(project(ASGI), "site_main.py:app()")


def test_a_module_in_a_package_is_suggested_with_its_package(project, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "asgi.py").write_text(ASGI)
    assert 'Did you mean "shop.asgi"?' in refusal(project(ASGI), "shop.asig:app")


def test_a_missing_attribute_is_answered_with_the_applications_of_the_module(project):
    load = project(
        """
        import json
        from contextlib import nullcontext

        class Site:
            async def __call__(self, scope, receive, send): pass

        class Broken:
            @property
            def __class__(self): raise RuntimeError("only in a request")

        async def helper(a, b, c): pass
        def application_factory(): return Site()
        web, proxy = Site(), Broken()
        """
    )
    assert refusal(load, "site_main:app").endswith('Did you mean "site_main:web"?')
    assert refusal(load, "site_main:wbe").endswith('Did you mean "web"?')


def test_what_is_no_application_is_not_answered_with_applications(project, tmp_path):
    """As for --ssl-context-factory."""
    project(ASGI + "def make_context(): pass\n")
    assert refusal(load_attribute, "site_main:context", str(tmp_path)).endswith(
        'Did you mean "make_context"?'
    )
    assert refusal(load_attribute, "site_main:zzz", str(tmp_path)).endswith('site_main".')
    assert refusal(check_import_string, "site_main", usual="").endswith('"<module>:<attribute>".')


def test_a_missing_attribute_is_answered_with_a_near_name_where_there_is_no_application(project):
    load = project("def create_app(): pass")
    assert refusal(load, "site_main:creat_app").endswith('Did you mean "create_app"?')
    assert refusal(load, "site_main:zzz").endswith('not found in module "site_main".')


def test_the_application_taken_for_a_factory_is_told_from_a_factory_with_arguments(project):
    load = project(ASGI)
    for options in ({"import_string": "site_main:app()"}, {"factory": True}):
        assert "needs no call: leave out the () or --factory" in refusal(load, **options)


@pytest.mark.parametrize(
    "code", ["async def app(): pass", "async def make(): pass\ndef app(): return make()"]
)
def test_a_factory_that_is_async_is_refused(project, code):
    assert "must be a plain function" in refusal(project(code), factory=True)


def test_a_missing_directory_is_named(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(AppLoadError, match=f"^--app-dir {gone}: there is no such directory"):
        load_app("site_main:app", app_dir=str(gone))


def test_a_factory_that_wants_arguments_is_refused(project):
    with pytest.raises(AppLoadError, match="without arguments"):
        project("def app(settings): pass")(factory=True)


def test_imports_stay_in_the_release_that_the_link_named(tmp_path, monkeypatch):
    """After a `current` link has moved, an old generation goes on importing from its own release."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "linked_main.py").write_text(ASGI)
        (tmp_path / release / "linked_late.py").write_text(f"release = {release!r}\n")
    link = tmp_path / "current"
    link.symlink_to("one")
    load_app("linked_main:app", app_dir=str(link))
    link.unlink()
    link.symlink_to("two")
    import linked_late

    assert linked_late.release == "one"
    del sys.modules["linked_main"], sys.modules["linked_late"]


def trace(load):
    with pytest.raises(BaseException) as caught:
        load()
    return format_user_traceback(caught.value.with_traceback(caught.tb.tb_next))


def test_a_traceback_shows_the_users_frames_only(project):
    text = trace(project("def fail():\n    raise ValueError('broken')\nfail()\n"))
    assert "site_main.py" in text
    assert "ValueError: broken" in text
    assert "asgireload/app.py" not in text
    assert "importlib" not in text


def test_a_syntax_error_shows_only_itself(project):
    text = trace(project("def broken(:\n"))
    assert text.lstrip().startswith('File "') or "Traceback" not in text.splitlines()[1:]
    assert "asgireload/app.py" not in text
    assert "SyntaxError" in text


def test_causes_and_groups_are_cleaned_too(project):
    text = trace(
        project(
            """
            try:
                import nowhere_dependency
            except ImportError as error:
                raise ExceptionGroup("several", [ValueError("inner")]) from error
            """
        )
    )
    assert "inner" in text
    assert "nowhere_dependency" in text
    assert "importlib" not in text


def test_an_error_of_our_own_keeps_its_frames():
    def load():
        check_import_string("bad")

    with pytest.raises(AppLoadError) as caught:
        load()
    innermost = caught.value.__traceback__.tb_next.tb_next
    assert "asgireload/app.py" in format_user_traceback(caught.value.with_traceback(innermost))


@pytest.mark.parametrize(
    ("reason", "summary"),
    [
        ("no database", "no database"),
        ("no database\ntry again later", "no database"),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\nOSError: gone',
            "OSError: gone",
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
            "ValidationError: 1 validation error for Settings\nfoo\n  Field required\n    For more see x",
            "ValidationError: 1 validation error for Settings",
        ),
        ('  File "/a/b.py", line 3\n    x = (\n        ^\nSyntaxError: no', "SyntaxError: no"),
        ('Traceback:\n  File "/a/b.py", line 3, in f', 'File "/a/b.py", line 3, in f'),
        ("\n  it failed\nfor ever\n", "it failed"),
    ],
)
def test_reason_of_a_failed_start_is_told_in_a_line(reason, summary):
    assert split_reason(reason)[0] == summary


def test_summary_is_what_happened_not_the_advice_behind_it():
    error = ValueError("1 validation error\n  see the manual")
    error.add_note("a note")
    assert summarize(error) == "ValueError: 1 validation error"
    assert summarize(SystemExit(3)) == "sys.exit(3) was called"
    with pytest.raises(SyntaxError) as caught:
        compile("def (", "x.py", "exec")
    assert summarize(caught.value) == "SyntaxError: invalid syntax"


def test_what_fastapi_imports_in_its_lifespan_is_imported_with_the_application():
    pytest.importorskip("fastapi.telemetry")
    code = (
        "import sys, fastapi; from asgireload.frameworks import import_the_rest; import_the_rest();"
        " before = set(sys.modules); import asyncio\n"
        "async def run():\n"
        "    messages = [{'type': 'lifespan.startup'}, {'type': 'lifespan.shutdown'}]\n"
        "    async def receive(): return messages.pop(0)\n"
        "    async def send(message): pass\n"
        "    await fastapi.FastAPI()({'type': 'lifespan', 'asgi': {}, 'state': {}}, receive, send)\n"
        "asyncio.run(run())\n"
        "print(*[name for name in set(sys.modules) - before if name.startswith('fastapi')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


# --- event loops ----------------------------------------------------------------------------------


def failure_of(call):
    with pytest.raises(RuntimeError) as caught:
        call()
    while never_awaited:
        never_awaited.pop().close()
    return caught.value


def in_loop(call):
    async def main():
        call()

    return lambda: asyncio.run(main())


async def nothing():
    pass


never_awaited = []


def made():
    """Return a coroutine that nobody awaits."""
    never_awaited.append(nothing())
    return never_awaited[-1]


def run_in_another_loop():
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(made())
    finally:
        loop.close()


@pytest.mark.parametrize(
    "call",
    [
        asyncio.get_running_loop,
        lambda: asyncio.create_task(made()),
        lambda: aiohttp.ClientSession(),
    ],
)
def test_failure_for_want_of_a_running_loop_is_known(call):
    error = failure_of(call)
    assert needs_running_loop(error)
    assert not refuses_running_loop(error)


@pytest.mark.parametrize(
    "call",
    [
        lambda: asyncio.run(made()),
        lambda: asyncio.Runner().run(made()),
        lambda: anyio.run(nothing),
        run_in_another_loop,
        lambda: asyncio.get_running_loop().run_until_complete(made()),
        lambda: async_to_sync(nothing)(),
    ],
)
def test_failure_because_a_loop_runs_is_known(call):
    error = failure_of(in_loop(call))
    assert refuses_running_loop(error)
    assert not needs_running_loop(error)


def test_failure_about_a_loop_is_found_in_what_was_made_of_it():
    def wrapped():
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            raise ValueError("settings") from error

    with pytest.raises(ValueError, match="settings") as caught:
        wrapped()
    assert needs_running_loop(caught.value)
    assert needs_running_loop(ExceptionGroup("two", [KeyError(), caught.value]))
    assert not needs_running_loop(RuntimeError("there is no settings file"))
    assert not refuses_running_loop(KeyError("This event loop is already running"))
