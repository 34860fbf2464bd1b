"""A headless Chromium driven by its DevTools protocol: opens a page, and notes what the page does.

Pages have no network: names do not resolve, and the browser is told that it is offline. Knows
nothing of reports.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

BINARIES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_START_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0
#: What is kept of what a page complains about.
_COMPLAINTS_MAX: Final = 100


class BrowserFailed(Exception):
    """No browser, or one that does not answer; the message says which."""


def find_browser() -> str | None:
    """The path of a Chromium, None if there is none."""
    return next((found for name in BINARIES if (found := shutil.which(name))), None)


class Page:
    """One page, and what it has done since it was opened. `complaints`: errors and warnings of its
    console, and exceptions; `requests`: addresses asked for that are neither files nor data."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._session: str | None = None

    async def begin(self) -> None:
        """Attach to a new, empty page."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.call("Network.emulateNetworkConditions", offline=True, **offline)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Raises BrowserFailed if the browser refuses, or does not answer."""
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        try:
            await self._socket.send_json(message)
            found = await asyncio.wait_for(answer, _ANSWER_SECONDS)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise BrowserFailed(f"the browser does not answer {method}: {error!r}") from error
        finally:
            del self._waiting[number]
        if "error" in found:
            raise BrowserFailed(f"{method}: {found['error'].get('message')}")
        result: dict[str, Any] = found.get("result", {})
        return result

    async def open(self, address: str) -> None:
        """Go there, and wait until it is loaded. Raises BrowserFailed."""
        self._loaded.clear()
        found = await self.call("Page.navigate", url=address)
        if found.get("errorText"):
            raise BrowserFailed(f"{address}: {found['errorText']}")
        try:
            await asyncio.wait_for(self._loaded.wait(), _ANSWER_SECONDS)
        except TimeoutError:
            raise BrowserFailed(f"{address} is not loaded within {_ANSWER_SECONDS:g} s") from None

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Pixels of the window; light or dark as the user would prefer."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def evaluate(self, expression: str) -> Any:
        """The value of this JavaScript. Raises BrowserFailed for what throws."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserFailed(f"JavaScript: {found['exceptionDetails'].get('text')}")
        return found["result"].get("value")

    async def screenshot(self) -> bytes:
        """The whole page, as PNG."""
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    async def listen(self) -> None:
        """Until the browser closes: hand out answers, note what the page does."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            found = json.loads(message.data)
            waiting = self._waiting.get(found.get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result(found)
            elif "method" in found:
                self._note(found["method"], found.get("params", {}))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self._complain(f"exception: {told['exceptionDetails'].get('text')}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            values = [str(one.get("value", one.get("description"))) for one in told["args"]]
            self._complain(f"console {told['type']}: {' '.join(values)}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self._complain(f"{told['entry']['level']}: {told['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            address = str(told["request"]["url"])
            if not address.startswith(("file:", "data:", "about:")):
                self.requests.append(address[:200])

    def _complain(self, text: str) -> None:
        if len(self.complaints) < _COMPLAINTS_MAX:
            self.complaints.append(text)


@asynccontextmanager
async def opened(binary: str) -> AsyncIterator[Page]:
    """A page of a browser of its own, with an empty profile, which ends with it. Raises
    BrowserFailed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            binary,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            address = await _address(process, Path(profile))
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(address, max_msg_size=0) as socket,
            ):
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                try:
                    await page.begin()
                    yield page
                    await _close(page)
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
        except aiohttp.ClientError as error:
            raise BrowserFailed(f"the browser cannot be reached: {error}") from error
        finally:
            await _end(process)


async def _address(process: asyncio.subprocess.Process, profile: Path) -> str:
    """Of its DevTools, once it has written down where they are."""
    port_file = profile / "DevToolsActivePort"
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if process.returncode is not None:
            raise BrowserFailed(f"the browser ended at once, with code {process.returncode}")
        lines = port_file.read_text().split() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise BrowserFailed(f"the browser did not start within {_START_SECONDS:g} s")


async def _close(page: Page) -> None:
    """In good order, so that no process of it stays; what fails here `_end` makes good."""
    page._session = None
    try:
        await page.call("Browser.close")
    except BrowserFailed:
        return


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        return
    except TimeoutError:
        process.kill()
    await process.wait()
