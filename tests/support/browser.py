"""A headless Chromium without network, told what to do over a pipe (its DevTools protocol)."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
_CUT_OFF = (
    "--host-resolver-rules=MAP * 0.0.0.0, EXCLUDE 127.0.0.1",
    "--proxy-server=127.0.0.1:9",  # which loopback addresses go past
    "--no-first-run",
)
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32, "End": 35, "Home": 36}
_KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
)


@dataclass
class Page:
    """An open page: what it asked for, what it complained of."""

    send_to: int
    read_from: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    downloaded: str | None = None
    _name: str = ""
    _count: int = 0
    _unread: bytes = b""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Give an order and return its answer; what happens meanwhile is noted."""
        self._count += 1
        order: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self.session:
            order["sessionId"] = self.session
        os.write(self.send_to, json.dumps(order).encode() + b"\0")
        while (message := self._next()).get("id") != self._count:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, page: Path | str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file or an address in a window of some size; wait until its plots are drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        url = page if isinstance(page, str) else page.absolute().as_uri()
        self.call("Page.navigate", url=url)
        self.evaluate(
            "new Promise(done => { const look = () => document.readyState === 'complete' && "
            "(typeof Plotly === 'undefined' || document.documentElement.dataset.plots) ? done(1) "
            ": setTimeout(look, 20); look(); })"
        )

    def evaluate(self, code: str) -> Any:
        """Run JavaScript in the page and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until JavaScript's condition holds; a minute at most."""
        waited = self.evaluate(
            f"new Promise(done => {{ const began = Date.now(); const look = () => ({condition}) ? "
            "done(true) : Date.now() - began > 60000 ? done(false) : setTimeout(look, 20); "
            "look(); })"
        )
        assert waited, f"{condition} did not come true: {self.evaluate('document.body.innerText')}"

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Return where an element is in the window, having scrolled there: x, y, width, height."""
        return tuple(
            self.evaluate(
                f"(() => {{ const found = document.querySelector({json.dumps(selector)}); "
                "found.scrollIntoView({block: 'nearest'}); const box = "
                "found.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })()"
            )
        )

    def mouse(self, *places: tuple[float, float]) -> None:
        """Press the mouse at a place of the window, pull it over others, let it go at the last."""
        for kind, at in (("Pressed", places[0]), *[("Moved", p) for p in places[1:]]):
            self._mouse(kind, at)
        self._mouse("Released", places[-1])

    def _mouse(self, kind: str, at: tuple[float, float]) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}", x=at[0], y=at[1], button="left", buttons=1, clickCount=1,
        )  # fmt: skip

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        x, y, width, height = self.place(selector)
        self.mouse((x + width / 2, y + height / 2))

    def choose_file(self, selector: str, file: Path) -> None:
        """Choose a file as in the dialog of an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def drop_file(self, name: str, kind: str, content: bytes) -> None:
        """Let a file fall onto the page."""
        encoded = base64.b64encode(content).decode()
        self.evaluate(
            f"(() => {{ const bytes = Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0)); "
            "const carried = new DataTransfer(); "
            f"carried.items.add(new File([bytes], {json.dumps(name)}, {{type: '{kind}'}})); "
            "for (const kind of ['dragover', 'drop']) document.body.dispatchEvent(new DragEvent("
            "kind, {dataTransfer: carried, bubbles: true, cancelable: true})); })()"
        )

    def download(self, selector: str, folder: Path) -> Path:
        """Click on what is downloaded; return the file."""
        self.downloaded = None
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allow", downloadPath=str(folder), eventsEnabled=True,
        )  # fmt: skip
        self.click(selector)
        while self.downloaded is None:
            self._note(self._next())
        return folder / self.downloaded

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key; 8 is Shift."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            code = _KEYS.get(key, 0)
            if key == "Enter" and kind == "keyDown":
                text = {"text": "\r"}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, modifiers=modifiers, windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def picture(self, whole: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        options: dict[str, Any] = {"captureBeyondViewport": True} if whole else {}
        return base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            chunk = os.read(self.read_from, 1 << 20)
            assert chunk, "the browser ended"
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(params["args"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Browser.downloadWillBegin":
                self._name = params["suggestedFilename"]
            case "Browser.downloadProgress" if params["state"] != "inProgress":
                assert params["state"] == "completed", params
                self.downloaded = self._name
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser with one empty page, and end it."""
    assert CHROMIUM
    theirs_in, send_to = os.pipe()
    read_from, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads orders from descriptor 3 and answers on 4; any others here are not passed.
        command = [CHROMIUM, *_FLAGS, *_CUT_OFF, f"--user-data-dir={profile}"]
        script = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "browser", *command, "--remote-debugging-pipe"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            page = Page(send_to, read_from)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            process.kill()
            process.wait()
            os.close(send_to)
            os.close(read_from)
