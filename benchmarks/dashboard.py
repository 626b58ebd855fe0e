"""How soon the dashboard shows something: from opening its address to the last row of the view, in Chromium, on a
generated table whose rows are marked as simulated. Each time a browser session of its own, so nothing is kept there.

python -m benchmarks.dashboard [--rows 100000] [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page

from benchmarks.lookups import PLAIN, generated_store
from tests.api_service import serve
from tests.browser import open_browser, watched

VIEWS = {
    "devices and tables, the first view": "",
    "coverage of mbconv": f"coverage?target={PLAIN.id}&space=mbconv",
    "operators along channels": f"operators?target={PLAIN.id}&type=conv2d",
    "heat map": f"operators?target={PLAIN.id}&type=conv2d&mode=heat",
    "search": "search",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        path = Path(folder) / "generated.db"
        generated_store(path, options.rows, PLAIN)
        print(f"{options.rows} rows, {path.stat().st_size / 1e6:.0f} MB; load of the machine {load():.1f}")
        with serve(path) as service:
            httpx.get(f"{service.url}/v1/health", timeout=60)
            for name, view in VIEWS.items():
                seconds = [seconds_to(browser, service.url, view) for _ in range(options.repeats)]
                rest = ", ".join(f"{one:.2f}" for one in seconds[1:])
                print(f"{name:36s} {seconds[0]:.2f} s at first, then {statistics.median(seconds[1:]):.2f} s ({rest})")


def seconds_to(browser: Browser, url: str, view: str) -> float:
    """From the address to a filled view, its chart drawn where it has one."""
    with watched(browser, url) as page:
        return timed(lambda: wait_for_all(page.open(view)))


def wait_for_all(page: Page) -> None:
    page.wait_for_selector("main table, main form, main .notice")
    if page.locator(".chart").count():
        page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def load() -> float:
    return float(Path("/proc/loadavg").read_text().split()[0])


if __name__ == "__main__":
    main()
