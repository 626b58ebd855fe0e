"""Debian's Chromium, driven by Playwright, on a service whose tables were really measured here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from lut_db.store import open_store
from search.staircase import detect
from tests.api_service import ROOT

CHROMIUM = Path(os.environ.get("CHAMNET_CHROMIUM", "/usr/bin/chromium"))
LITERT, ONNXRUNTIME = "/litert-", "/onnxruntime-"
PATIENCE_MS = 60_000
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}

GRID = """
[[grid]]
type = "conv2d"
input = "1x64x28x28"
kernel = "1x1"
out_channels = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 92, 96]
[[grid]]
type = "conv2d"
input = ["1x16x14x14", "1x32x14x14", "1x48x14x14", "1x64x14x14"]
kernel = "3x3"
out_channels = [16, 32, 48, 64]
"""
"""Channels in steps of four, where stairs of eight or sixteen can be seen; and a square of channels."""


expect.set_options(timeout=PATIENCE_MS)


class BrowserMissing(Exception):
    """Tests that need a browser are skipped, with this as the reason."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Raises BrowserMissing where none can be driven here."""
    if not CHROMIUM.exists():
        raise BrowserMissing(f"{CHROMIUM} must be there, but is not; 'apt-get install chromium' brings it")
    with ExitStack() as stack:
        try:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except (PlaywrightError, OSError) as error:
            raise BrowserMissing(f"{CHROMIUM} must start, but got: {str(error).splitlines()[0]}") from None
        stack.callback(browser.close)
        yield browser


@dataclass
class Watched:
    """A page, and what it must not have done.

    Attributes:
        complaints: errors and warnings of its console, and exceptions that nobody caught.
        addresses: of everything that it loaded.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, view: str = "") -> Page:
        """Opens a view and waits until it is filled."""
        self.page.goto(f"{self.url}/#/{view}")
        self.filled()
        return self.page

    def filled(self) -> None:
        expect(self.page.locator("main h1")).to_be_visible()
        expect(self.page.locator("main [aria-busy]")).to_have_count(0)

    def was_refused(self, status: int) -> None:
        """Takes off the only complaint, which must be that the service answered so; the browser always tells that."""
        (complaint,) = self.complaints
        assert f"status of {status}" in complaint
        self.complaints.clear()

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def asked(self, request: Request) -> None:
        self.addresses.append(request.url)


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A page in a session of its own; options are those of Playwright's ``new_context``."""
    context = browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        found = Watched(context.new_page(), url)
        found.page.on("console", found.heard)
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", found.asked)
        yield found
    finally:
        context.close()


def measure(folder: Path, space: str = "macro", networks: int = 3, calibration: int = 2) -> Path:
    """Measures this computer with both engines: a space, a grid, and a few whole networks.

    Args:
        space: of the whole networks; those of ``macro`` are so short that a busy machine lets them be.
    """
    db, grid = folder / "lut.db", folder / "grid.toml"
    grid.write_text(GRID)
    chamnet("profile", "--engine", "litert", "--space", "mbconv", "--db", str(db))
    chamnet("profile", "--engine", "litert,onnxruntime", "--ops", str(grid), "--db", str(db))
    counts = ("--networks", str(networks), "--calibration", str(calibration))
    chamnet("validate", "--engine", "litert", "--space", space, *counts, "--db", str(db))
    with open_store(db) as store:
        for target in store.targets():
            store.put_staircases(target, detect(store.lut(target)))
    return db


def chamnet(*arguments: str) -> None:
    """The command, in a process of its own; done in part is done."""
    command = [sys.executable, "-c", "from host.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
