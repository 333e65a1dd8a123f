"""Chromium without a window, driven over the DevTools protocol with a WebSocket client.

Enough for a test to open a page, to wait for what it shows and to take its picture. `--dump-dom` would
not do: it looks at the page once, and an open event stream keeps its virtual clock from turning.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.process.running import wait_until

PROGRAM = shutil.which("chromium")
START_TIMEOUT = 20
ANSWER_TIMEOUT = 20
SWITCHES = (
    "--headless",
    "--no-sandbox",  # the tests may run as root, where Chromium's own sandbox refuses to
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--no-first-run",
    "--window-size=900,900",
    "--remote-debugging-port=0",
)
PORT_FILE = "DevToolsActivePort"
"""Chromium writes the port it took into this file of its profile."""


class Page:
    """One open page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0

    def command(self, method, **parameters):
        """Send a DevTools command and return its result."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(ANSWER_TIMEOUT))
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression):
        """Return the value of a JavaScript expression; a promise is awaited."""
        result = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")

    def wait_for(self, condition, timeout=10):
        """Wait until a JavaScript condition is true; fail, showing the page, after `timeout` seconds."""
        fulfilled = self.evaluate(
            f"""new Promise((resolve) => {{
                const give_up = Date.now() + {timeout * 1000};
                const look = () => ({condition}) ? resolve(true)
                    : Date.now() > give_up ? resolve(false) : setTimeout(look, 20);
                look();
            }})"""
        )
        assert fulfilled, f"not true within {timeout} s: {condition}\n{self.text('body')}"

    def screenshot(self):
        """Return the visible part as the bytes of a PNG file."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def open_page(url):
    """Yield a `Page` that shows `url`, in a browser of its own that ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [PROGRAM, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = _wait_port(browser, Path(profile) / PORT_FILE)
            # Pictures are long messages, hence no limit.
            with connect(_find_page(port), max_size=None, proxy=None) as socket:
                page = Page(socket)
                page.command("Page.navigate", url=url)
                yield page
        finally:
            # The whole session, because its helpers outlive the browser for a moment.
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


def _wait_port(browser, path):
    def read_port():
        assert browser.poll() is None, f"chromium ended with {browser.returncode}"
        # The file has two lines, and may be seen while it is written.
        lines = path.read_text().splitlines() if path.exists() else []
        return int(lines[0]) if len(lines) > 1 else None

    return wait_until(read_port, START_TIMEOUT, "the port of chromium")


def _find_page(port):
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_TIMEOUT
    ) as answer:
        targets = json.load(answer)
    return next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
