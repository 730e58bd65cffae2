"""A real browser, started once and driven over a pipe; it needs nothing but Chromium."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120
"""Seconds until an answer counts as missing."""


class Browser:
    """One tab of a Chromium, driven by its DevTools protocol."""

    def __init__(self, profile):
        import fcntl  # POSIX only

        ours, theirs = zip(os.pipe()[::-1], os.pipe(), strict=True)
        # They become 3 and 4 there, so they may be neither of them here.
        inherited = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in theirs]
        script = 'exec "$0" "$@" 3<&{} 4>&{}'.format(*inherited)
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=inherited, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (*theirs, *inherited):
            os.close(end)
        self._out, self._in = ours
        self._rest, self._asked, self._tab = b"", 0, None
        self.events = []
        (tab,) = [one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._tab = self.ask("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Send a command; its result."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if self._tab is not None:
            message["sessionId"] = self._tab
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda one: one.get("id") == self._asked)
        assert "error" not in answer, answer
        return answer["result"]

    def _await(self, wanted):
        """The first message that is wanted; the others are events."""
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._rest:
                text, _, self._rest = self._rest.partition(b"\0")
                message = json.loads(text)
                if wanted(message):
                    return message
                self.events.append(message)
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no answer within {PATIENCE} s"
            chunk = os.read(self._in, 2**20)
            assert chunk, "the browser has ended"
            self._rest += chunk

    def open(self, path):
        """Load a file and wait until it is there."""
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        if not [event for event in self.events if event.get("method") == "Page.loadEventFired"]:
            self._await(lambda one: one.get("method") == "Page.loadEventFired")

    def evaluate(self, expression):
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def resize(self, width):
        """Give the page a width."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )

    def scheme(self, name):
        """Prefer light or dark."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    @property
    def complaints(self):
        """What stands in the console since the page was opened."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.events if event.get("method") in kinds]

    def close(self):
        """End it."""
        with contextlib.suppress(OSError, AssertionError):
            self._tab = None
            self.ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
