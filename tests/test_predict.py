"""What a model will cost, from a table alone: files and names, what is known, guessed, missing, and wrong questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host import cli
from host.devices import choose_cpus, find_unit
from host.predict import open_predictor
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.lut import MissingOpsError
from lut_db.store import open_store
from ops_catalog.build import Network
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.spec import Graph

KNOWN = tuple(f"mobilenet-v2-{width}-{size}" for width in ("0.35", "0.5", "1.0") for size in ("96", "128"))
BETWEEN = "mobilenet-v2-0.75-96"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every operator of a few networks, on the engine of exact time."""
    path = tmp_path_factory.mktemp("predict") / "lut.db"
    with open_store(path) as store:
        graphs = tuple(build_network(name) for name in KNOWN)
        profile(store, find_unit("local-cpu"), Setting("fake", choose_cpus(1)), Workload(graphs=graphs), Progress())
    return path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(["predict", *arguments])
    captured = capfd.readouterr()
    return status, captured.out, captured.err


def exact_ms(graph: Graph) -> float:
    """What the engine of exact time says of a network, operator by operator."""
    from ops_catalog.build import single

    blobs = (export_graph(single(op), "fake") for op in graph.operators)
    return sum(json.loads(blob)["ns"] for blob in blobs) / 1e6


def test_a_measured_network_costs_what_was_measured(db: Path) -> None:
    predictor = open_predictor(db, "fake")
    prediction = predictor.predict(build_network(KNOWN[0]))
    assert prediction.latency_ms == pytest.approx(exact_ms(build_network(KNOWN[0])), rel=0.01)
    assert prediction.share("measured") == pytest.approx(100)
    assert not prediction.missing


def test_a_network_between_the_measured_ones_is_interpolated(db: Path) -> None:
    prediction = open_predictor(db, "fake").predict(build_network(BETWEEN))
    truth = exact_ms(build_network(BETWEEN))
    assert prediction.latency_ms == pytest.approx(truth, rel=0.05)
    assert prediction.low_ms < prediction.latency_ms < prediction.high_ms
    assert prediction.share("interpolated") > 20
    assert prediction.share("estimated") == 0


def test_many_networks_are_priced_in_one_call(db: Path) -> None:
    graphs = [build_network(name) for name in (*KNOWN, BETWEEN)]
    latencies = open_predictor(db, "fake").latency_ms(graphs)
    assert latencies.shape == (len(graphs),)
    assert latencies[-1] == pytest.approx(exact_ms(graphs[-1]), rel=0.05)


def test_an_operator_of_a_type_never_measured_is_missing_and_never_free(db: Path) -> None:
    network = Network("with gelu", (1, 8, 8, 8))
    graph = network.finish(network.add("gelu", network.input))
    predictor = open_predictor(db, "fake")
    assert [op.type for op in predictor.predict(graph).missing] == ["gelu"]
    with pytest.raises(MissingOpsError):
        predictor.latency_ms([graph])


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_model_file_is_read_and_priced(
    suffix: str, db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(export_graph(build_network(KNOWN[0]), suffix))
    status, out, _ = run(capfd, str(path), "--db", str(db), "--json")
    (prediction,) = json.loads(out)["predictions"]
    assert status == 0
    assert prediction["latency_ms"] == pytest.approx(exact_ms(build_network(KNOWN[0])), rel=0.01)
    assert {row["label"] for row in prediction["operators"]} == {"measured"}


def test_what_has_no_price_becomes_an_operators_file(
    db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.json"
    status, out, _ = run(capfd, "resnet-18", "--db", str(db), "--json", "--missing", str(missing))
    (prediction,) = json.loads(out)["predictions"]
    assert status == 3
    assert prediction["missing"] == json.loads(missing.read_text())["operators"]
    assert prediction["missing"]


def test_the_missing_operators_are_measured_on_request(
    db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(db.read_bytes())
    status, out, _ = run(capfd, BETWEEN, "--db", str(copy), "--json", "--measure-missing")
    (prediction,) = json.loads(out)["predictions"]
    assert status == 0
    assert prediction["shares"]["measured"] == pytest.approx(100)


def test_the_whole_model_is_measured_beside_it(db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(db.read_bytes())
    status, out, _ = run(capfd, KNOWN[0], "--db", str(copy), "--json", "--verify")
    (prediction,) = json.loads(out)["predictions"]
    assert status == 0
    assert prediction["measured_ms"] == pytest.approx(prediction["latency_ms"], rel=0.02)


def test_the_report_holds_every_layer_and_loads_nothing(
    db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert run(capfd, BETWEEN, "--db", str(db), "--html", str(page))[0] == 0
    text = page.read_text()
    assert text.count("<rect") > 20
    assert "interpolated" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (("nowhere.onnx",), 2, "a model must be a file"),
        (("warpnet",), 2, "a model must be a file or one of"),
        (("mobilenet-v2", "--device", "pixel99"), 1, "one target must match 'pixel99'"),
        (("mobilenet-v2", "--calibration", "nothing"), 1, "a calibration must be of"),
        (("mobilenet-v2", "--shape", "x=1xax3"), 2, "an input's shape must read like"),
    ],
)
def test_a_wrong_question_is_one_line(
    db: Path, arguments: tuple[str, ...], status: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capfd, *arguments, "--db", str(db))
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_broken_model_file_is_one_line(db: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(export_graph(build_network(KNOWN[0]), "onnx")[:1000])
    status, out, err = run(capfd, str(path), "--db", str(db))
    assert (status, out) == (2, "")
    assert err.startswith("chamnet: ")
    assert err.count("\n") == 1
