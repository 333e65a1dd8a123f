"""Style sheets and images, which open pages exchange: they are told apart from code."""

import asyncio

import pytest

from asgireload.development.watch.changes import Changes
from asgireload.development.watch.filters import make_filter
from tests.development.watch.test_watcher import Listening


class ListeningForAssets(Listening):
    def __init__(self, directory, **options):
        super().__init__(directory, reload_browser=True, **options)
        self.assets = []

    def on_assets(self, paths):
        self.assets.append(paths)
        self._told.set()


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("static/site.css", True),
        ("static/logo.png", True),
        ("static/site.js", False),
        ("node_modules/x/site.css", False),
        ("static/.site.css", False),
        ("static/private.css", False),
        ("main.py", True),
    ],
)
def test_assets_are_watched_where_pages_renew_themselves(name, accepted):
    exclude = ["private.*"]
    chosen = make_filter(["/site"], [], exclude, with_assets=True)
    assert chosen.accepts(f"/site/{name}") is accepted
    plain = make_filter(["/site"], [], exclude)
    assert plain.accepts(f"/site/{name}") is (name == "main.py")
    assert not plain.is_asset(f"/site/{name}")


def test_changes_can_be_parted():
    changes = Changes(frozenset({"a.css", "a.py"}), frozenset({"b.css"}), is_environment=True)
    rest = changes.without(lambda path: path.endswith(".css"))
    assert rest == Changes(frozenset({"a.py"}), is_environment=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reload_poll": 0.01},
        {"reload_include": ("*.css",)},
        {"reload_watcher": "watchfiles"},
    ],
)
def test_a_saved_style_sheet_is_told_to_pages_and_reloads_nothing(tmp_path, options):
    async def scenario():
        async with ListeningForAssets(tmp_path, **options) as listening:
            # The watch has begun when it tells of something.
            (tmp_path / "first.py").write_text("x = 1\n")
            if "reload_poll" not in options:
                await listening.until_loaded(tmp_path / "first.py")
            async with asyncio.timeout(20):
                while not listening.assets:
                    (tmp_path / "site.css").write_text(
                        f"p {{ margin: {len(listening.changing)}px }}"
                    )
                    await asyncio.sleep(0.05)
            assert listening.assets[0] == {str(tmp_path / "site.css")}
            (tmp_path / "last.py").write_text("x = 1\n")
            await listening.until_loaded(tmp_path / "last.py")
            loaded = frozenset().union(*(load.paths for load in listening.loads))
            assert str(tmp_path / "site.css") not in loaded

    asyncio.run(scenario())
