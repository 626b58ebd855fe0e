"""The dashboard in a real browser, on tables measured here: every view, its charts, its forms, and who may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
from playwright.sync_api import Browser, Page, expect

from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from search.spaces import space_named
from tests.api_service import Served, new_token, serve
from tests.browser import LITERT, ONNXRUNTIME, PHONE, BrowserMissing, Watched, measure, open_browser, watched

VIEWS = ("", "coverage", "operators", "validation", "search", "profile", "predict", "jobs")
TITLES = ("Devices", "Coverage", "Operators", "Validation", "Search", "Measure", "Predict", "Jobs")
CONV = "conv2d(1x64x28x28;kernel=1x1;out_channels=32;float32)"
CHECKS = (Path(__file__).parent / "page_checks.js").read_text().strip().rstrip(";")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with open_browser() as opened:
            yield opened
    except BrowserMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def db(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured once there is a browser to see it with."""
    return measure(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="module")
def served(db: Path) -> Iterator[Served]:
    with serve(db) as service:
        yield service


@pytest.fixture(scope="module")
def secret(db: Path) -> str:
    return new_token(db)


@pytest.fixture
def watch(browser: Browser, served: Served) -> Iterator[Watched]:
    """A page that must leave the console silent."""
    with watched(browser, served.url) as page:
        yield page
    assert page.complaints == []


@pytest.fixture
def trusted(watch: Watched, secret: str) -> Watched:
    """The same with a token that may write."""
    watch.page.add_init_script(f"sessionStorage.setItem('chamnet-token', {json.dumps(secret)})")
    return watch


def target_id(served: Served, engine: str) -> str:
    targets = httpx.get(f"{served.url}/v1/targets", timeout=60).json()["targets"]
    return next(row["id"] for row in targets if engine in row["name"] and "operators" not in row["options"])


def ask(served: Served, engine: str, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{served.url}/v1/targets/{target_id(served, engine)}/{path}", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(page: Page, caption: str) -> list[list[str]]:
    """The cells of a table, row by row."""
    table = page.get_by_role("table", name=caption)
    expect(table).to_be_visible()
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]


def drawn(page: Page, selector: str) -> int:
    """How many marks of that kind the chart has, once it is drawn."""
    page.wait_for_selector(f".js-plotly-plot {selector}", state="attached")
    return page.locator(f".js-plotly-plot {selector}").count()


def test_devices_and_tables_are_seen_first(watch: Watched, served: Served) -> None:
    page = watch.open()
    (device,) = rows(page, "Devices that were measured on")
    assert device[0] == "local-cpu"
    assert "free" in device[2]
    tables = rows(page, "A table holds for one device")
    known = httpx.get(f"{served.url}/v1/targets").json()["targets"]
    assert [row[0] for row in tables] == [target["name"] for target in known]
    assert [row[1] for row in tables] == [f"{target['counts']['operators']:,}" for target in known]


def test_a_table_is_saved_as_a_file(watch: Watched, served: Served, tmp_path: Path) -> None:
    page = watch.open()
    with page.expect_download() as saved:
        page.get_by_role("link", name="as csv").first.click()
    saved.value.save_as(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("key,latency_us")


def test_coverage_counts_what_a_table_has_of_a_space(watch: Watched, served: Served) -> None:
    page = watch.open(f"coverage?target={target_id(served, LITERT)}&space=mbconv")
    total = len(list(space_named("mbconv").operators()))
    expect(page.get_by_text(f"{total} of {total} operators")).to_be_visible()
    found = ask(served, LITERT, "coverage", space="mbconv")
    told = {row[0]: [int(cell) for cell in row[2:]] for row in rows(page, "Operators of mbconv by type")}
    states = ("operators", "measured", "doubtful", "quarantined", "missing")
    assert told == {row["type"]: [row[state] for state in states] for row in found["types"]}


def test_coverage_says_how_to_measure_what_is_missing(watch: Watched, served: Served) -> None:
    page = watch.open(f"coverage?target={target_id(served, LITERT)}&space=mbconv")
    page.get_by_label("Table").select_option(target_id(served, ONNXRUNTIME))
    page.get_by_label("Space").select_option("macro")
    expect(page.locator(".command code")).to_contain_text("chamnet profile --device local-cpu --engine onnxruntime")
    expect(page.locator(".command code")).to_contain_text("--space macro")
    page.get_by_role("link", name="measure them from here").click()
    expect(page.get_by_label("Space")).to_have_value("macro")
    expect(page.get_by_label("Engine")).to_have_value("onnxruntime")


def test_latency_is_drawn_along_channels_with_the_stairs_of_the_target(watch: Watched, served: Served) -> None:
    target = target_id(served, ONNXRUNTIME)
    page = watch.open(f"operators?target={target}&type=conv2d&along=out_channels&in_channels=64&height=28")
    columns = ask(served, ONNXRUNTIME, "columns", type="conv2d", along="out_channels", in_channels=64, height=28)
    assert drawn(page, ".scatterlayer .points path") == len(columns["key"]) >= 24
    step = columns["steps"].get("out")
    assert page.locator(".shapelayer path").count() == (max(columns["out_channels"]) // step if step else 0)
    assert len(rows(page, "operators")) == len(columns["key"])


def test_lines_are_of_operators_that_differ_along_the_axis_only(watch: Watched, served: Served) -> None:
    page = watch.open(f"operators?target={target_id(served, ONNXRUNTIME)}&type=conv2d&along=out_channels")
    assert drawn(page, ".scatterlayer .trace") == 5
    page.get_by_label("in channels").select_option("16")
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(1)
    assert "in_channels=16" in page.url


def test_a_heat_map_shows_channels_against_channels(watch: Watched, served: Served) -> None:
    page = watch.open(f"operators?target={target_id(served, ONNXRUNTIME)}&type=conv2d&mode=heat&kernel=3")
    assert drawn(page, ".heatmaplayer image") == 1
    assert len(rows(page, "operators")) == 16


def test_two_tables_are_compared(watch: Watched, served: Served) -> None:
    left, right = target_id(served, LITERT), target_id(served, ONNXRUNTIME)
    page = watch.open(f"operators?target={left}&type=conv2d&mode=compare&other={right}")
    columns = [ask(served, engine, "columns", type="conv2d") for engine in (LITERT, ONNXRUNTIME)]
    both = set(columns[0]["key"]) & set(columns[1]["key"])
    assert drawn(page, ".scatterlayer .points path") == len(both) >= 40
    expect(page.get_by_text(f"{len(both)} operators are in both")).to_be_visible()


def test_a_roofline_shows_how_hard_operators_compute(watch: Watched, served: Served) -> None:
    page = watch.open(f"operators?target={target_id(served, LITERT)}&mode=roofline")
    assert drawn(page, ".scatterlayer .points path") >= 200
    expect(page.locator(".legend .traces", has_text="depthwise_conv2d")).to_be_visible()


def test_a_measurement_shows_its_samples_conditions_and_doubts(watch: Watched, served: Served) -> None:
    target = target_id(served, LITERT)
    page = watch.open(f"operators?target={target}&type=conv2d&out_channels=32&in_channels=64&height=28")
    page.get_by_role("link", name=CONV, exact=True).click()
    found = ask(served, LITERT, "measurements", key=CONV)
    assert drawn(page, ".scatterlayer .points path") == sum(row["samples"] for row in found["measurements"])
    assert len(rows(page, "Measurements, newest first")) == len(found["measurements"])
    if not any(row["doubts"] for row in found["measurements"]):
        expect(page.get_by_text("No measurement of it is doubted.")).to_be_visible()
    page.get_by_text("Measurement 1", exact=True).click()
    conditions = found["measurements"][-1]["conditions"]
    names = [row[0] for row in rows(page, "Of the device, around the batch")]
    assert names == list(dict.fromkeys([*conditions["before"], *conditions["after"]]))


def test_doubts_are_told_in_words(watch: Watched, served: Served) -> None:
    page = watch.open()
    words = page.evaluate("import('/format.js').then((format) => format.DOUBTS)")
    known = {
        "noisy", "few-samples", "interrupted", "drifted", "throttled", "slow-clock", "charging-changed", "stolen",
        "below-overhead", "busy-sibling", "power-capped", "gpu-shared", "hot",
    }  # fmt: skip
    assert set(words) == known


def test_an_operator_that_the_engine_splits_names_what_it_runs(watch: Watched, served: Served) -> None:
    target = target_id(served, ONNXRUNTIME)
    entry = ask(served, ONNXRUNTIME, "entries", key=CONV)
    page = watch.open(f"measurement?target={target}&key={CONV}")
    runs = rows(page, "What it costs")
    assert len(runs) == len(entry["contexts"])
    page.get_by_role("link", name=entry["contexts"][0]["natives"][0], exact=True).first.click()
    assert drawn(page, ".scatterlayer .points path") > 9


def test_validation_holds_predictions_against_measurements(watch: Watched, served: Served) -> None:
    page = watch.open("validation")
    found = ask(served, LITERT, "validation")
    assert drawn(page, ".scatterlayer .points path") == len(found["networks"]) == 5
    assert len(rows(page, "Networks that were measured whole")) == 5
    unseen = next(row for row in found["errors"] if (row["role"], row["method"]) == ("unseen", "calibrated"))
    assert rows(page, "Errors of predictions")[0][4] == f"{unseen['mape']:.1f}"


def search_in(page: Page, generations: int = 3, most_ms: float | None = None) -> None:
    """Fills in the form and starts a search: up to one limit, or where none is given to six of them."""
    page.get_by_label("Space").select_option("mbconv")
    litert = page.locator("option", has_text=LITERT).first.inner_text()
    page.get_by_label("Table", exact=True).select_option(label=litert)
    if most_ms is None:
        for label, text in (("from ms", "4"), ("to ms", "30"), ("how many", "6")):
            page.get_by_label(label).fill(text)
    else:
        page.get_by_label("On the first table").select_option("no")
        page.get_by_label("at most ms").fill(str(most_ms))
    page.get_by_text("More limits and how to search").click()
    page.get_by_label("Children a generation").fill("40")
    page.get_by_label("Generations").fill(str(generations))
    page.get_by_role("button", name="Search", exact=True).click()


def test_a_search_runs_live_to_its_front_and_the_winner_is_downloaded(
    trusted: Watched, served: Served, tmp_path: Path
) -> None:
    page = trusted.open("search")
    search_in(page)
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    found = rows(page, "Networks found")
    assert drawn(page, ".scatterlayer .points path") == len(found) > 0
    assert drawn(page, ".errorbars .errorbar") == len(found)
    page.get_by_role("button", name=found[-1][0], exact=True).click()
    expect(page.get_by_role("heading", level=2, name=f"Network {found[-1][0]}")).to_be_visible()
    assert page.locator(".stages li").count() == 7
    for kind in ("ONNX", "TFLite"):
        with page.expect_download() as saved:
            page.get_by_role("link", name=f"Download {kind}").click()
        saved.value.save_as(tmp_path / kind)
    graph = onnx.load(str(tmp_path / "ONNX")).graph
    assert len(graph.node) > 30
    assert (tmp_path / "TFLite").read_bytes()[4:8] == b"TFL3"


def test_stages_add_up_to_the_operators(trusted: Watched) -> None:
    page = trusted.open("search")
    stages = page.evaluate(
        """(operators) => import("/network.js").then(({ stagesOf }) =>
            stagesOf(operators.map(([key, latency_ns]) => ({ key, latency_ns }))))""",
        [
            ("conv2d(1x3x224x224;kernel=3x3;out_channels=8;stride=2x2;float32)", 5),
            ("conv2d(1x8x112x112;float32)", 7),
            ("global_average_pool(1x8x112x112;float32)", 1),
            ("conv2d(1x8x1x1;float32)", 2),
            ("mul(1x8x112x112|1x8x1x1;float32)", 3),
            ("conv2d(1x8x56x56;float32)", None),
            ("linear(1x8;out_features=10;float32)", 4),
        ],
    )
    assert [(stage["size"], len(stage["operators"]), stage["latency_ns"]) for stage in stages] == [
        (224, 1, 5), (112, 4, 13), (56, 1, 0), (1, 1, 4),
    ]  # fmt: skip


def test_fronts_of_several_searches_are_compared(trusted: Watched) -> None:
    page = trusted.open("search")
    search_in(page, 2)
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    first = page.url
    page.get_by_text("New search").click()
    search_in(page, 2, most_ms=12.0)
    expect(page).not_to_have_url(first)
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    page.wait_for_selector(".stages")
    for box in page.get_by_role("checkbox", name="compare the search").all()[:2]:
        box.check()
    page.get_by_role("button", name="Compare fronts").click()
    page.wait_for_selector(".stages")
    assert drawn(page, ".scatterlayer .trace") == 2
    assert len({row[0] for row in rows(page, "Networks found")}) > 1


def test_a_search_is_followed_again_after_the_page_was_loaded_anew(trusted: Watched) -> None:
    page = trusted.open("search")
    search_in(page, 5)
    page.wait_for_selector("section.job")
    page.reload()
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    page.wait_for_selector(".stages")


def test_a_search_is_cancelled(trusted: Watched) -> None:
    page = trusted.open("search")
    search_in(page, 1000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("region", name="Job")).to_contain_text("cancelled")
    page.goto(f"{trusted.url}/#/jobs")
    assert "cancelled" in rows(page, "Newest first")[0][1]


def test_a_search_without_operators_says_which_are_missing(trusted: Watched) -> None:
    page = trusted.open("search")
    page.get_by_label("Space").select_option("chamnet-res")
    page.get_by_label("from ms").fill("4")
    page.get_by_label("to ms").fill("30")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("region", name="Job")).to_contain_text("failed")
    expect(page.get_by_text("operators have no price")).to_be_visible()
    page.get_by_role("link", name="Measure them from here").click()
    assert page.get_by_label("Operators", exact=True).input_value().startswith("conv2d(")


def test_writing_asks_for_a_token_and_a_wrong_one_is_told_as_such(watch: Watched, secret: str) -> None:
    page = watch.open("search")
    search_in(page, 2)
    dialog = page.get_by_role("dialog", name="Token")
    expect(dialog.get_by_text("chamnet token create NAME --scope write")).to_be_visible()
    dialog.get_by_label("Token").fill("chamnet_wrong")
    dialog.get_by_role("button", name="Use").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Not accepted: a token must be known and not revoked")
    dialog.get_by_label("Token").fill(secret)
    dialog.get_by_role("button", name="Use").click()
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    watch.was_refused(401)


def test_a_token_that_may_only_read_is_told_as_such(watch: Watched, db: Path) -> None:
    page = watch.open("search")
    search_in(page, 2)
    dialog = page.get_by_role("dialog", name="Token")
    dialog.get_by_label("Token").fill(new_token(db, "reader", ("read",)))
    dialog.get_by_role("button", name="Use").click()
    expect(page.get_by_role("dialog", name="Token")).to_contain_text("must have the scope write")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("must have the scope write")
    watch.was_refused(403)


def test_nothing_is_started_without_a_token(watch: Watched, served: Served) -> None:
    page = watch.open("profile")
    page.get_by_role("button", name="Start measuring").click()
    page.get_by_role("dialog", name="Token").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing was started")
    assert not any(request.endswith("/v1/profiles") for request in watch.addresses)


def test_operators_are_measured_from_the_form(trusted: Watched, served: Served) -> None:
    key = "conv2d(1x24x20x20;kernel=1x1;out_channels=40;float32)"
    page = trusted.open("profile")
    page.get_by_label("Measure").select_option("operators")
    page.get_by_label("Operators", exact=True).fill(key)
    page.get_by_role("button", name="Start measuring").click()
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    page.get_by_role("link", name="What came of it").click()
    expect(page.get_by_text("measurements now")).to_be_visible()
    assert ask(served, LITERT, "entries", key=key)["key"] == key


def test_a_request_that_cannot_be_met_says_where_it_is_wrong(trusted: Watched) -> None:
    page = trusted.open("profile")
    page.get_by_label("Measure").select_option("operators")
    page.get_by_label("Operators", exact=True).fill("conv2d(nonsense)")
    page.get_by_role("button", name="Start measuring").click()
    expect(page.get_by_role("alert")).to_contain_text("an operator key must read like")
    trusted.was_refused(422)


def test_a_dropped_model_is_priced(trusted: Watched, served: Served, tmp_path: Path) -> None:
    space = space_named("mbconv")
    graph = space.decode([gene.choices[0] for gene in space.genes])
    (tmp_path / "small.onnx").write_bytes(export_graph(graph, "onnx"))
    page = trusted.open(f"predict?target={target_id(served, LITERT)}")
    page.get_by_label("Model file").set_input_files(tmp_path / "small.onnx")
    expect(page.get_by_role("heading", level=2)).to_contain_text("small.onnx")
    expect(page.get_by_text("95 % interval")).to_be_visible()
    assert page.locator(".stages li").count() >= 6
    assert len(rows(page, "in their order")) == min(25, len(graph.nodes))


def test_a_model_dropped_with_the_mouse_is_priced_too(trusted: Watched, served: Served) -> None:
    page = trusted.open(f"predict?target={target_id(served, LITERT)}")
    smallest = "-".join(str(gene.choices[0]) for gene in space_named("mbconv").genes)
    transfer = page.evaluate_handle(
        """async (address) => {
            const data = new DataTransfer();
            data.items.add(new File([await (await fetch(address)).blob()], "small.tflite"));
            return data;
        }""",
        f"/v1/spaces/mbconv/networks/{smallest}/model?format=tflite",
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    expect(page.get_by_role("heading", level=2)).to_contain_text("small.tflite")
    expect(page.get_by_text("95 % interval")).to_be_visible()


def test_what_a_model_lacks_is_listed_with_the_command(trusted: Watched, served: Served, tmp_path: Path) -> None:
    (tmp_path / "resnet.onnx").write_bytes(export_graph(build_network("resnet-50"), "onnx"))
    page = trusted.open(f"predict?target={target_id(served, ONNXRUNTIME)}")
    page.get_by_label("Model file").set_input_files(tmp_path / "resnet.onnx")
    expect(page.get_by_text("operators have no price")).to_be_visible()
    expect(page.get_by_text("chamnet profile --device local-cpu")).to_be_visible()
    trusted.was_refused(422)


def tab_to(page: Page, name: str, most: int = 80) -> None:
    """Goes on with the Tab key until the focus is on what has that name."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(f"{CHECKS}.focused()") == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"the focus must reach {name!r} within {most} steps")


def test_a_search_is_run_with_the_keyboard_alone(watch: Watched, secret: str) -> None:
    page = watch.open()
    tab_to(page, "Skip to content", 1)
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    page.reload()
    watch.filled()
    tab_to(page, "Search")
    page.keyboard.press("Enter")
    watch.filled()
    for name, text in (("from ms", "4"), ("to ms", "30"), ("how many", "3")):
        tab_to(page, name)
        page.keyboard.type(text)
    tab_to(page, "More limits and how to search")
    page.keyboard.press("Enter")
    for name, text in (("Children a generation", "40"), ("Generations", "2")):
        tab_to(page, name)
        page.keyboard.press("Control+A")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.type(secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Job")).to_contain_text("done")
    page.wait_for_selector(".stages")
    last = rows(page, "Networks found")[-1][0]
    tab_to(page, last)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2, name=f"Network {last}")).to_be_visible()


def test_the_dialog_closes_with_escape_and_the_focus_goes_back(watch: Watched) -> None:
    page = watch.open()
    page.get_by_role("button", name="Token").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "token"


@pytest.mark.parametrize("view", [*VIEWS, f"measurement?key={CONV}", "operators?mode=heat", "operators?mode=compare"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_scrolls_sideways_on_a_phone(browser: Browser, served: Served, view: str, scheme: Any) -> None:
    where = f"&target={target_id(served, ONNXRUNTIME)}" if "?" in view else ""
    with watched(browser, served.url, viewport=PHONE, color_scheme=scheme) as phone:
        page = phone.open(view + where)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.get_by_role("heading", level=1).bounding_box()["width"] <= PHONE["width"]  # type: ignore[index]
        assert phone.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, served: Served, scheme: Any) -> None:
    with watched(browser, served.url, color_scheme=scheme) as told:
        for view in VIEWS:
            assert told.open(view).evaluate(f"{CHECKS}.lowContrast()") == []
        dark = told.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 31)"
        assert dark == (scheme == "dark")


def test_charts_take_the_colours_of_the_scheme_when_it_changes(watch: Watched) -> None:
    page = watch.open("validation")
    drawn(page, ".scatterlayer .points path")
    tick = page.locator(".js-plotly-plot .xtick text").first
    light = tick.evaluate("(tick) => getComputedStyle(tick).fill")
    page.emulate_media(color_scheme="dark")
    expect(tick).not_to_have_css("fill", light)


@pytest.mark.parametrize(("view", "title"), list(zip(VIEWS, TITLES, strict=True)))
def test_every_view_has_a_title_and_names_for_all_that_can_be_used(watch: Watched, view: str, title: str) -> None:
    page = watch.open(view)
    assert page.title() == f"{title} \u00b7 ChamNet"
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()
    expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(title)
    assert page.evaluate(f"{CHECKS}.unnamed()") == []


def test_everything_is_loaded_from_the_service_itself(watch: Watched) -> None:
    for view in VIEWS:
        watch.open(view)
    assert {address for address in watch.addresses if not address.startswith((watch.url, "blob:", "data:"))} == set()


def test_the_charting_library_is_loaded_only_where_something_is_drawn(watch: Watched) -> None:
    watch.open("coverage")
    assert not any("plotly" in address for address in watch.addresses)
    drawn(watch.open("validation"), ".scatterlayer")
    assert any("plotly" in address for address in watch.addresses)


def test_without_the_charting_library_the_tables_still_tell(watch: Watched) -> None:
    watch.page.route("**/vendor/**", lambda route: route.fulfill(status=404))
    page = watch.open("validation")
    expect(page.get_by_text("Not drawn: the charting library cannot be loaded")).to_be_visible()
    assert len(rows(page, "Networks that were measured whole")) == 5
    assert all("404" in complaint for complaint in watch.complaints)
    watch.complaints.clear()


def test_what_the_service_tells_never_becomes_markup(watch: Watched, served: Served) -> None:
    page = watch.open(f"measurement?target={target_id(served, LITERT)}&key=<img src=x onerror=alert(1)>")
    expect(page.get_by_role("alert")).to_contain_text("<img src=x")
    assert page.locator("main img").count() == 0
    watch.was_refused(404)


@pytest.fixture(scope="module")
def empty(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("empty") / "lut.db") as service:
        yield service


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_database_says_what_to_do(browser: Browser, empty: Served, view: str) -> None:
    with watched(browser, empty.url) as page:
        main = page.open(view).locator("main")
        expect(main).to_contain_text("Start measuring" if view == "profile" else "easure")
        assert page.complaints == []
