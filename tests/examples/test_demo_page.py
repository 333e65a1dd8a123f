"""The demo page in a browser: what a person sees of a reload."""

import pytest

from tests.examples.browser import PROGRAM, open_page
from tests.examples.catalogue import DEMO
from tests.process.running import Server

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed"),
]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BLANK_PNG_BYTES = 10_000
"""More than an empty picture of this size takes; the page, with its text, takes several times that."""


def shows(selector, text):
    return f"document.querySelector('{selector}').textContent.includes('{text}')"


def test_a_browser_watches_a_reload(tmp_path):
    """Clock and echo are back with the new version, and none of the requests beside them failed."""
    directory = DEMO.copy_to(tmp_path)
    with (
        Server(tmp_path, "--app-dir", str(directory), workers=2) as server,
        open_page(f"http://127.0.0.1:{server.port}/") as page,
    ):
        page.wait_for("Boolean(document.querySelector('#ticker'))")
        page.wait_for(shows("#log", "version 1 from worker"))
        page.wait_for(shows("#echoes", "hello"))

        DEMO.release(directory, "2")
        server.reload()

        page.wait_for(shows("#log", "says goodbye"))
        page.wait_for(shows("#log", "version 2 from worker"))
        page.wait_for(shows("#echoes", "closed with 1012"))
        page.wait_for(shows("#socket", "open"))
        assert page.text("#version") == "2"
        assert page.text("#failed") == "0"
        assert int(page.text("#answered")) > 0
        picture = page.screenshot()
        assert picture.startswith(PNG_SIGNATURE)
        assert len(picture) > BLANK_PNG_BYTES
