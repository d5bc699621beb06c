"""A headless Chromium that really clicks.

Its DevTools protocol over two pipes, which needs no library and no port.

Protocol: https://chromedevtools.github.io/devtools-protocol; with `--remote-debugging-pipe` it
reads commands from file descriptor 3 and writes answers and events to 4, JSON messages that end
with a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMEOUT = 60.0


def find_chromium() -> str | None:
    """Return a Chromium, installing Debian's where there is none and this is root on Debian.

    None where none can be had.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (
            ["update", "-q"],
            ["install", "-y", "-q", "--no-install-recommends", "chromium"],
        ):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            try:
                subprocess.run(
                    ["apt-get", *command],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                    timeout=600,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                return None
        return shutil.which("chromium")
    return None


class Page:
    """A page of the browser. Errors of its scripts are kept in `errors`, requests in `requests`."""

    def __init__(self, to: int, answers: int):
        self._to, self._from, self._number, self._rest = to, answers, 0, b""
        self._session: str | None = None
        self._loaded = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.bringToFront")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and return its result; events that come before it are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        ends = time.monotonic() + TIMEOUT
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, ends - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        event = json.loads(message)
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(event["params"]["exceptionDetails"]["text"])
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])
        self._loaded |= event.get("method") == "Page.loadEventFired"
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        return event

    def open(self, url: str, width: int, height: int, dark: bool = False) -> None:
        """Show a page in a window of that size, in the light or the dark scheme."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        scheme.append(
            {"name": "prefers-reduced-motion", "value": "reduce"}
        )  # nothing glides away from a click
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._read()

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; an exception in it fails."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in reply, f"{expression}: {reply['exceptionDetails']}"
        return reply["result"].get("value")

    def comes(self, expression: str, seconds: float = 10) -> bool:
        """Say whether a JavaScript expression becomes true in time."""
        ends = time.monotonic() + seconds
        while not self.ask(expression):
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        return True

    def click(self, selector: str, number: int = 0) -> None:
        """Scroll to an element and click in its middle, as a mouse does.

        What lies over it gets the click.
        """
        element = f"document.querySelectorAll({json.dumps(selector)})[{number}]"
        box = self.ask(
            f"(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: "
            f"'center', behavior: 'instant'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] "
            "})()"
        )
        assert box, f"no element {selector}[{number}]"
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def press(self, key: str) -> None:
        """Press a key: Tab, Enter, Escape."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            code=key,
            windowsVirtualKeyCode=codes[key],
            **text,
        )
        self.call(
            "Input.dispatchKeyEvent",
            type="keyUp",
            key=key,
            code=key,
            windowsVirtualKeyCode=codes[key],
        )

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        reply = self.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=whole,
            **({"clip": self._whole()} if whole else {}),
        )
        path.write_bytes(base64.b64decode(reply["data"]))

    def _whole(self) -> dict[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


@contextmanager
def browse(chromium: str, folder: Path) -> Iterator[Page]:
    """Yield a page of a new browser, whose profile lies in `folder`.

    No network but that of the page.
    """
    reads, to = os.pipe()
    answers, writes = os.pipe()
    arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-extensions",
        "--disable-background-networking",
    ]
    arguments += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
    # bash (sh knows no two-digit descriptors) puts the pipes where the protocol wants them.
    command = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", chromium, *arguments]
    process = subprocess.Popen(
        command, pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(reads)
    os.close(writes)
    try:
        yield Page(to, answers)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to)
        os.close(answers)
