"""Chromium without a window, driven through chromedriver's own protocol (W3C WebDriver)."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
ENTER = "\ue007"


class Browser:
    """One window.

    Args:
        client: of the driver.
        session: the window's path there.
    """

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client, self._session = client, session

    def open(self, address: str) -> None:
        """Goes to a page and waits for it."""
        self._post("url", {"url": address})

    @property
    def address(self) -> str:
        """Of the page that is shown."""
        return str(self._client.get(f"{self._session}/url").json()["value"])

    def arrives(self, ending: str, seconds: float = 30.0) -> bool:
        """Whether it comes to a page whose address ends so, and has all of it; a click or a key only begins to go."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.address.endswith(ending) and self.script("return document.readyState") == "complete":
                return True
            time.sleep(0.05)
        return False

    def script(self, body: str) -> Any:
        """What a piece of JavaScript returns."""
        return self._post("execute/sync", {"script": body, "args": []})

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def complaints(self) -> list[str]:
        """What the console said since it was asked last: errors of scripts, of the policy, of loading."""
        return [entry["message"] for entry in self._post("se/log", {"type": "browser"})]

    def _post(self, command: str, values: dict[str, Any]) -> Any:
        answer = self._client.post(f"{self._session}/{command}", json=values).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer


@contextmanager
def browser(width: int, height: int = 844) -> Iterator[Browser]:
    """A window of a size in CSS pixels; the test is skipped where there is no Chromium with its driver."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs chromium and chromedriver")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(found[1] for line in process.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        metrics = {"width": width, "height": height, "pixelRatio": 1}
        options = {"args": _ARGUMENTS, "mobileEmulation": {"deviceMetrics": metrics}}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            made = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            session = f"/session/{made['sessionId']}"
            try:
                yield Browser(client, session)
            finally:
                client.delete(session)
    finally:
        process.terminate()
        process.wait(20)
