"""Pictures of the dashboard for the docs, on tables that are measured here first.

python -m tests.dashboard_pictures [--out docs] [--db measured-before.db]
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.api_service import ROOT, Served, new_token, serve
from tests.browser import LITERT, ONNXRUNTIME, PHONE, measure, open_browser, watched

WIDTH = 1180
COLOURS = 256
"""A picture of a page needs no more, and is a third as large."""
MOST_BYTES = 150_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--db", type=Path, help="a database that 'tests.browser.measure' made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        db = options.db or measure(Path(folder), "mbconv", networks=24, calibration=8)
        token = new_token(db, f"pictures-{Path(folder).name}")
        with serve(db) as service:
            take_all(browser, service, token, options.out)


def take_all(browser: Browser, service: Served, token: str, out: Path) -> None:
    known = httpx.get(f"{service.url}/v1/targets", timeout=60).json()["targets"]
    ids = {engine: next(row["id"] for row in known if engine in row["name"]) for engine in (LITERT, ONNXRUNTIME)}

    def take(name: str, view: str, prepare: Callable[[Page], None], height: int, **options: object) -> None:
        with watched(browser, service.url, **{"viewport": {"width": WIDTH, "height": height}, **options}) as shown:
            shown.page.add_init_script(f"sessionStorage.setItem('chamnet-token', {json.dumps(token)})")
            prepare(shown.open(view))
            save(shown.page, out / f"{name}.png")

    stairs = f"operators?target={ids[ONNXRUNTIME]}&type=conv2d&along=out_channels&height=28&in_channels=64"
    take("dashboard-operators", stairs, wait_for_chart, 850)
    take("dashboard-validation", f"validation?target={ids[LITERT]}", wait_for_chart, 1010, color_scheme="dark")
    take("dashboard-search", "search", lambda page: search(page, ids[LITERT]), 1000)
    coverage = f"coverage?target={ids[LITERT]}&space=mbconv"
    take("dashboard-phone", coverage, lambda page: None, 0, viewport=PHONE, color_scheme="dark")


def wait_for_chart(page: Page) -> None:
    page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")
    page.wait_for_timeout(300)


def search(page: Page, target: str) -> None:
    """A search with usual effort, its winner as a diagram."""
    page.get_by_label("Table", exact=True).select_option(target)
    for label, text in (("from ms", "5"), ("to ms", "25"), ("how many", "12")):
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("region", name="Job")).to_contain_text("done", timeout=180_000)
    page.wait_for_selector(".stages")
    wait_for_chart(page)
    expect(page.locator("#status")).to_be_empty()
    bottom = page.locator(".stages").evaluate("(list) => Math.ceil(list.getBoundingClientRect().bottom + scrollY)")
    bottom = page.locator(".stages").evaluate("(list) => Math.ceil(list.getBoundingClientRect().bottom + scrollY)")
    page.set_viewport_size({"width": WIDTH, "height": bottom + 40})
    page.wait_for_timeout(500)


def save(page: Page, path: Path) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path.name} must be at most {MOST_BYTES} bytes, but has {size}"
    print(f"{path}: {size // 1000} kB")


if __name__ == "__main__":
    main()
