"""Tables of other tools: each format in its true structure, what is wrong in a file, and networks priced with them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host import cli
from host.errors import EXIT_ERROR, EXIT_PARTLY, EXIT_USAGE
from lut_db.errors import ExchangeError
from lut_db.exchange import export_target, import_file
from lut_db.foreign import (
    FORMATS,
    Imported,
    Origin,
    detect,
    device_name,
    export_foreign,
    import_builtin,
    import_foreign,
)
from lut_db.foreign.mbconv_blocks import BUILTIN, COLUMNS
from lut_db.lut import LatencyLut, MissingOpsError
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.build import Network, expand, single
from ops_catalog.networks.blocks import classifier, inverted_residual
from ops_catalog.spec import TensorSpec
from search.cells import Arithmetic, build_cells, network_peak_bytes
from search.cost import CostModel
from search.spaces import space_named

OFA = """
AvgPool2D-input:7x7x1152-output:1x1x1152:
  count: 495
  mean: 0.015271
  var: 8.15e-07
Conv-input:224x224x3-output:112x112x24:
  count: 500
  mean: 0.994418
  var: 0.000298
Conv_2-input:1x1x1152-output:1x1x1536: {count: 500, mean: 0.762458, var: 0.01}
Logits-input:1x1x1536-output:1000: {count: 500, mean: 0.669412, var: 0.005}
expanded_conv-input:112x112x24-output:56x56x32-expand:72-kernel:5-stride:2-idskip:0-se:0-hs:0:
  count: 53
  mean: 3.499981
  var: 0.0080
expanded_conv-input:14x14x136-output:14x14x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1:
  count: 101
  mean: 1.634446
  var: 0.0012
"""
PROXYLESS = """
Conv-input:224x224x3-output:112x112x32: {count: 949, mean: 4.397, var: 0.15}
Logits-input:7x7x1280-output:1000: {count: 949, mean: 0.9348, var: 0.15}
expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0:
  count: 154
  mean: 5.264772727272727
  var: 0.19495998666150827
expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0:
  count: 310
  mean: 4.03
  var: 0.07
"""
RUNTIME_LUT = [
    {
        "op_type": "Int8ConvRelu",
        "op_args": ['name: "group"\ni: 96\n', 'name: "kernel"\ni: 3\n', 'name: "order"\ns: "NHWC"\n',
                    'name: "pad"\ni: 1\n', 'name: "stride"\ni: 2\n'],
        "input_shapes": [[1, 112, 112, 96], [96, 3, 3, 1], [96]],
        "input_dtypes": [6, 6, 2],
        "runtime_us_p0": 330.0, "runtime_us_p10": 335.0, "runtime_us_p50": 363.0, "runtime_us_p90": 380.0,
        "runtime_us_p100": 900.0,
        "device": "SM-G950U-7.0-24",
    },
    {
        "op_type": "Int8Conv",
        "op_args": ['name: "kernel"\ni: 1\n', 'name: "order"\ns: "NHWC"\n'],
        "input_shapes": [[1, 56, 56, 96], [24, 1, 1, 96], [24]], "input_dtypes": [6, 6, 2],
        "runtime_us_p50": 300.0, "device": "SM-G950U-7.0-24",
    },
    {"op_type": "Int8FC", "op_args": [], "input_shapes": [[1, 1984], [1000, 1984], [1000]], "input_dtypes": [6, 6, 2],
     "runtime_us_p50": 400.0, "device": "SM-G950U-7.0-24"},
    {"op_type": "Int8AveragePool", "op_args": ['name: "kernel"\ni: 7\n', 'name: "order"\ns: "NHWC"\n'],
     "input_shapes": [[1, 7, 7, 1984]], "input_dtypes": [6], "runtime_us_p50": 40.0, "device": "SM-G950U-7.0-24"},
    {"op_type": "Int8Add", "op_args": [], "input_shapes": [[1, 56, 56, 24], [1, 56, 56, 24]], "input_dtypes": [6, 6],
     "runtime_us_p50": 70.0, "device": "SM-G950U-7.0-24"},
    {"op_type": "Conv", "op_args": ['name: "kernel"\ni: 3\n', 'name: "stride"\ni: 2\n', 'name: "pad"\ni: 1\n'],
     "input_shapes": [[1, 3, 224, 224], [16, 3, 3, 3], [16]], "input_dtypes": [1, 1, 1], "runtime_us_p50": 2000.0,
     "device": "SM-G950U-7.0-24"},
    {"op_type": "NCHW2NHWC", "op_args": [], "input_shapes": [[1, 3, 224, 224]], "input_dtypes": [1],
     "runtime_us_p50": 276.0, "device": "SM-G950U-7.0-24"},
]  # fmt: skip
HW_NAS = """op,pixel3_latency,raspi4_latency,edgegpu_latency,edgegpu_energy
ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1,1.5,2.5,0.4,2.0
ConvBlock_H56_W56_Cin24_Cout24_exp3_kernel5_stride1_group1,2.31,4.02,1.7,6.9
ConvBlock_H56_W56_Cin24_Cout24_exp1_kernel5_stride1_group2,2.1,4.0,1.6,6.6
Skip_H112_W112_Cin16_Cout24_stride2,0.5,0.9,0.2,0.7
Skip_H56_W56_Cin24_Cout24_stride1,0.0,0.0,0.0,0.0
AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1,0.02,0.05,0.1,0.3
FC_Cin1984_Cout1000,0.6,1.4,0.2,0.5
"""
NN_METER = {
    "conv-bn-relu": {
        "YB2F4N": {
            "model": "/w/predictor_build/kernels/conv-bn-relu_prior_YB2F4N",
            "shapes": [[13, 13, 212]],
            "config": {"HW": 13, "CIN": 212, "COUT": 176, "KERNEL_SIZE": 1, "STRIDES": 1},
            "latency": "37.53 +- 0.314",
        }
    },
    "dwconv-bn-relu6": {
        "AAAAAA": {
            "shapes": [[28, 28, 96]],
            "config": {"HW": 28, "CIN": 96, "COUT": 96, "KERNEL_SIZE": 5, "STRIDES": 2},
            "latency": "1.2 +- 0.0",
        }
    },
    "fc": {"BBBBBB": {"shapes": [[1280]], "config": {"CIN": 1280, "COUT": 1000}, "latency": "0.9 +- 0.01"}},
    "addrelu": {"CCCCCC": {"config": {"HW": 14, "CIN": 64}, "latency": "0.1 +- 0.01"}},
    "concat": {"DDDDDD": {"config": {"HW": 14, "CIN1": 64, "CIN2": 32}, "latency": "0.1 +- 0.01"}},
    "maxpool": {
        "EEEEEE": {
            "config": {"HW": 56, "CIN": 64, "COUT": 64, "KERNEL_SIZE": 3, "POOL_STRIDES": 2},
            "latency": "0.4 +- 0.01",
        }
    },
    "channelshuffle": {"FFFFFF": {"config": {"HW": 14, "CIN": 64}, "latency": "0.1 +- 0.01"}},
}
BLOCKS = [
    ",".join(("table", "device", "resolution", *COLUMNS[2:])),
    "ofa_x,Phone X (Chip 1),224,Conv,224x224x3,112x112x24,,,,,,,0.994418,0.017268,500",
    "ofa_x,Phone X (Chip 1),224,expanded_conv,28x28x48,28x28x48,144,3,1,1,1,0,1.064827,0.024642,98",
    "ofa_x,Phone X (Chip 1),220,expanded_conv,28x28x48,28x28x48,144,3,1,1,1,0,1.074827,0.024642,97",
    "ofa_x,Phone X (Chip 1),224,expanded_conv,28x28x48,14x14x96,144,7,2,0,0,1,0.987509,0.027663,53",
]
SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with open_store(tmp_path / "lut.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def note10(tmp_path_factory: pytest.TempPathFactory) -> LatencyLut:
    with open_store(tmp_path_factory.mktemp("note10") / "lut.db") as opened:
        ((target, _),) = import_builtin(opened, "note10").targets
        return opened.lut(target)


def write(folder: Path, name: str, text: str | list[str]) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else "\n".join(text) + "\n")
    return path


def samples(folder: Path) -> dict[str, Path]:
    """A small file of every format."""
    return {
        "ofa-yaml": write(folder, "ofa.yaml", OFA),
        "runtime-lut": write(folder, "op_lut_database.json", [json.dumps(row) for row in RUNTIME_LUT]),
        "hw-nas-bench": write(folder, "hw.csv", HW_NAS),
        "nn-meter": write(folder, "profiled.json", json.dumps(NN_METER, indent=1)),
        "mbconv-blocks": write(folder, "blocks.csv", BLOCKS),
    }


def load(store: LutStore, path: Path, format_name: str = "", device: str = "") -> Imported:
    return import_foreign(store, path, format_name or detect(path), Origin(device))


def only(store: LutStore, path: Path, format_name: str = "", device: str = "x") -> LatencyLut:
    ((target, _),) = load(store, path, format_name, device).targets
    return store.lut(target)


def reasons(found: Imported) -> str:
    return "\n".join(f"{row.place}: {row.reason}" for row in found.refused)


def test_every_format_has_a_sample_and_is_recognised(tmp_path: Path) -> None:
    found = samples(tmp_path)
    assert set(found) == set(FORMATS)
    for name, path in found.items():
        assert detect(path) == name


def test_our_own_files_are_no_foreign_ones(store: LutStore, tmp_path: Path) -> None:
    import_builtin(store, "pixel1")
    for kind in ("jsonl", "parquet", "csv"):
        export_target(store, store.target_named("pixel1"), tmp_path / f"t.{kind}")
        assert detect(tmp_path / f"t.{kind}") == ""


def test_a_block_of_once_for_all_is_one_operator(store: LutStore, tmp_path: Path) -> None:
    lut = only(store, samples(tmp_path)["ofa-yaml"])
    block = "inverted_residual(1x136x14x14;activation=hard_swish;middle=408;out_channels=136;squeeze=104;float32)"
    entry = lut.by_key[block]
    assert entry.latency_ns == pytest.approx(1.634446e6)
    assert entry.samples == 101
    assert entry.mad_ns * 1.4826 == pytest.approx(1e6 * math.sqrt(0.0012))
    assert entry.label == "imported"
    assert entry.weight_bytes == ops.weight_bytes(ops.load_op(block))


def test_a_target_says_where_its_table_is_from(store: LutStore, tmp_path: Path) -> None:
    origin = Origin("note10", "Apache-2.0", "hanlab.mit.edu")
    ((target, count),) = import_foreign(store, samples(tmp_path)["ofa-yaml"], "ofa-yaml", origin).targets
    assert count == 6
    assert (target.device, target.engine, target.engine_version, target.source) == (
        "note10", "imported", "ofa-yaml", "imported",
    )  # fmt: skip
    assert dict(target.options) == {"licence": "Apache-2.0", "source": "hanlab.mit.edu"}
    assert store.targets() == [target]


def test_proxylessnas_tells_ratios_and_puts_the_mean_into_its_logits(store: LutStore, tmp_path: Path) -> None:
    lut = only(store, write(tmp_path, "p.yaml", PROXYLESS))
    assert "inverted_residual(1x192x7x7;kernel=5x5;middle=1152;out_channels=320;float32)" in lut.by_key
    assert "inverted_residual(1x32x112x112;expand=false;middle=32;out_channels=16;float32)" in lut.by_key
    net = Network("head", (1, 1280, 7, 7))
    assert lut.predict(net.finish(classifier(net, net.input))) == pytest.approx(0.9348e6)
    alone = ops.make_op("linear", TensorSpec((1, 1280)), out_features=1000)
    with pytest.raises(MissingOpsError):
        lut.predict(single(alone))


def test_the_phone_table_of_chamnet_is_int8_and_stored_channels_last(store: LutStore, tmp_path: Path) -> None:
    found = load(store, samples(tmp_path)["runtime-lut"])
    targets = {target.dtype: target for target, _ in found.targets}
    assert set(targets) == {"int8", "float32"}
    assert {target.device for target in targets.values()} == {"sm-g950u-7-0-24"}
    assert dict(targets["int8"].options)["licence"] == "CC-BY-NC"
    lut = store.lut(targets["int8"])
    depthwise = "depthwise_conv2d(1x96x112x112;activation=relu;kernel=3x3;stride=2x2;int8)"
    assert lut.by_key[depthwise].latency_ns == 363e3
    assert {"conv2d(1x96x56x56;kernel=1x1;out_channels=24;int8)", "global_average_pool(1x1984x7x7;int8)",
            "linear(1x1984;out_features=1000;int8)", "add(1x24x56x56|1x24x56x56;int8)"} < set(lut.by_key)  # fmt: skip
    stem = "conv2d(1x3x224x224;kernel=3x3;out_channels=16;stride=2x2;float32)"
    assert set(store.lut(targets["float32"]).by_key) == {stem}
    (row,) = store.measurements(targets["int8"], depthwise)
    assert row.summary is not None
    assert row.summary["p10_ns"] == 335e3
    assert "NCHW2NHWC" in reasons(found)


def test_every_device_column_of_hw_nas_bench_is_a_target(store: LutStore, tmp_path: Path) -> None:
    found = load(store, samples(tmp_path)["hw-nas-bench"])
    assert [target.device for target, _ in found.targets] == ["edgegpu", "pixel3", "raspi4"]
    lut = store.lut(found.targets[1][0])
    block = "inverted_residual(1x24x56x56;activation=relu;kernel=5x5;middle=72;out_channels=24;float32)"
    assert lut.by_key[block].latency_ns == pytest.approx(2.31e6)
    (row,) = store.measurements(found.targets[0][0], block)
    assert row.energy_uj == pytest.approx(6900)
    assert reasons(found).count("shuffles channels") == 3
    assert reasons(found).count("changes nothing") == 3


def test_kernels_of_nn_meter_are_operators(store: LutStore, tmp_path: Path) -> None:
    found = load(store, samples(tmp_path)["nn-meter"], device="pixel4")
    lut = store.lut(found.targets[0][0])
    assert lut.by_key["conv2d(1x212x13x13;activation=relu;kernel=1x1;out_channels=176;float32)"].latency_ns == 37.53e6
    assert {"depthwise_conv2d(1x96x28x28;activation=relu6;kernel=5x5;stride=2x2;float32)",
            "linear(1x1280;out_features=1000;float32)", "add(1x64x14x14|1x64x14x14;activation=relu;float32)",
            "concat(1x64x14x14|1x32x14x14;float32)",
            "max_pool(1x64x56x56;kernel=3x3;stride=2x2;float32)"} == lut.by_key.keys() - {
            "conv2d(1x212x13x13;activation=relu;kernel=1x1;out_channels=176;float32)"}  # fmt: skip
    assert "channelshuffle FFFFFF: 'channelshuffle' is no single operator" in reasons(found)


def test_a_profile_without_configurations_says_how_to_get_them(store: LutStore, tmp_path: Path) -> None:
    path = write(tmp_path, "p.json", json.dumps({"fc": {"A": {"latency": "1.0 +- 0.1"}}}))
    with pytest.raises(ExchangeError, match="DETAIL: TRUE"):
        load(store, path, device="x")


def test_a_block_at_two_resolutions_is_measured_twice(store: LutStore, tmp_path: Path) -> None:
    found = load(store, samples(tmp_path)["mbconv-blocks"])
    ((target, count),) = found.targets
    assert (target.device, count) == ("phone-x-chip-1", 4)
    key = "inverted_residual(1x48x28x28;activation=relu;middle=144;out_channels=48;squeeze=40;float32)"
    assert len(list(store.measurements(target, key))) == 2
    assert store.lut(target).by_key[key].latency_ns == pytest.approx(1.064827e6)
    assert store.devices()[0].model == "Phone X (Chip 1)"


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_import_changes_nothing(name: str, store: LutStore, tmp_path: Path) -> None:
    path = samples(tmp_path)[name]
    device = "x" if name in ("ofa-yaml", "nn-meter") else ""
    first = load(store, path, name, device)
    digests = [store.lut(target).digest for target, _ in first.targets]
    counts = [store.counts(target) for target, _ in first.targets]
    assert load(store, path, name, device) == first
    assert [store.lut(target).digest for target, _ in first.targets] == digests
    assert [store.counts(target) for target, _ in first.targets] == counts


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_imported_table_moves_on_in_our_own_formats(kind: str, store: LutStore, tmp_path: Path) -> None:
    ((target, _),) = import_builtin(store, "pixel1").targets
    export_target(store, target, tmp_path / f"t.{kind}")
    with open_store(tmp_path / "other.db") as other:
        assert import_file(other, tmp_path / f"t.{kind}") == (target, 72)
        assert other.lut(target).digest == store.lut(target).digest


@pytest.mark.parametrize(
    ("name", "text"), [("ofa.yaml", OFA), ("proxyless.yaml", PROXYLESS)], ids=["once-for-all", "proxylessnas"]
)
def test_a_table_survives_the_way_out_as_yaml_and_back(name: str, text: str, store: LutStore, tmp_path: Path) -> None:
    lut = only(store, write(tmp_path, name, text))
    count, left = export_foreign(lut, tmp_path / "out.yaml", "ofa-yaml")
    assert (count, left) == (len(lut.entries), [])
    again = only(store, tmp_path / "out.yaml", device="again")
    assert again.by_key.keys() == lut.by_key.keys()
    assert again.lowerings == lut.lowerings
    for key, entry in lut.by_key.items():
        other = again.by_key[key]
        assert other.samples == entry.samples
        assert (other.latency_ns, other.mad_ns) == pytest.approx((entry.latency_ns, entry.mad_ns), rel=1e-9)


def test_what_no_yaml_table_can_say_is_named(store: LutStore, tmp_path: Path) -> None:
    found = load(store, samples(tmp_path)["nn-meter"], device="pixel4")
    lut = store.lut(found.targets[0][0])
    count, left = export_foreign(lut, tmp_path / "out.yaml", "ofa-yaml")
    assert (count, len(left)) == (1, 5)
    assert "Logits-input:1x1x1280-output:1000" in (tmp_path / "out.yaml").read_text()
    with pytest.raises(ExchangeError, match="got none of 0"):
        export_foreign(replace(lut, entries=()), tmp_path / "none.yaml", "ofa-yaml")
    assert not (tmp_path / "none.yaml").exists()


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "ofa-yaml"])
def test_formats_that_can_only_be_read_are_not_written(name: str, note10: LatencyLut, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="one of ofa-yaml, but got"):
        export_foreign(note10, tmp_path / "out", name)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("mean: 0.994418", "mean: .nan", "mean must be above 0 (and at most 1e+09), but got '.nan'"),
        ("mean: 0.994418", "mean: 1.0e+308", "mean must be above 0"),
        ("mean: 0.994418", "mean: -0.99", "mean must be above 0"),
        ("mean: 0.994418", "mean: 0", "mean must be above 0"),
        ("mean: 0.994418", "mean: [1, 2]", "mean must be above 0 (and at most 1e+09), but got None"),
        ("mean: 0.994418", "mean: fast", "mean must be above 0 (and at most 1e+09), but got 'fast'"),
        ("mean: 0.994418", "mean: !!python/object/apply:os.system ['touch pwned']", "mean must be above 0"),
        ("count: 500\n  mean: 0.99", "count: -3\n  mean: 0.99", "count must be a whole number"),
        ("var: 0.000298", "var: -1", "var must be 0 or more"),
        ("112x112x24:\n", "111x112x24:\n", "the output must be"),
        ("224x224x3-", "224x3-", "an image must be H x W x C"),
        ("Conv-input", "Konv-input", "a layer must be one of"),
        ("Conv-input:", "Conv-inputs:", "a key must read like"),
        ("expand:72-", "", "expand must be a whole number"),
        ("idskip:0-se:0", "idskip:1-se:0", "a shortcut exactly where shapes agree"),
        ("Conv_2-input:1x1x1152-output:1x1x1536", "Conv-input:224x224x3-output:112x112x24", "told once"),
    ],
)
def test_a_wrong_row_is_named_and_the_others_are_kept(
    old: str, new: str, reason: str, store: LutStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert old in OFA
    found = load(store, write(tmp_path, "t.yaml", OFA.replace(old, new, 1)), device="x")
    assert len(found.refused) == 1
    assert found.refused[0].place.startswith("line ")
    assert reason in found.refused[0].reason
    assert found.targets[0][1] == 5
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.yaml", "!!python/object/apply:os.system ['touch pwned']"),
        ("t.yaml", "a: !!python/object/new:os.system [touch pwned]"),
        ("t.yaml", "- 1\n- 2\n"),
        ("t.yaml", "a: [1, 2"),
        ("t.yaml", ""),
        ("t.yaml", "[" * 20_000),
        ("t.yaml", "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n"),
        ("t.json", '{"fc": '),
        ("t.json", "[1, 2]"),
        ("t.json", '{"fc": [1]}'),
        ("t.json", "[" * 100_000),
        ("t.json", ""),
        ("t.json", '{"op_type": "Int8Conv"}'),
        ("t.json", '{"op_type": "Int8Conv", "device": "d", "input_shapes": [[1, 2, 3]], "runtime_us_p50": 1}'),
        ("t.csv", "a,b\n1,2\n"),
        ("t.csv", "op,pixel3_latency\nFC_Cin8,1\n"),
        ("t.csv", "op,pixel3_latency\n"),
        ("t.csv", "op,pixel3_latency\nFC_Cin8_Cout9\n"),
        ("t.csv", f"op,pixel3_latency\nFC_Cin8_Cout{'9' * 5000},1\n"),
        ("t.csv", "op,pixel3_latency\nFC_Cin999999999_Cout999999999,1\n"),
        ("t.csv", ",".join(("table", "device", "resolution", *COLUMNS[2:])) + "\nx,y\n"),
    ],
)
def test_a_file_that_says_nothing_is_refused_whole_in_one_line(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, name, text)
    with open_store("lut.db") as store:
        path = Path(name)
        with pytest.raises(ExchangeError) as caught:
            load(store, path, detect(path) or "hw-nas-bench", "x")
        assert store.targets() == []
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1200
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"\x00" * 50])
def test_bytes_that_are_no_text_are_refused(damage: bytes, store: LutStore, tmp_path: Path) -> None:
    for name in FORMATS:
        (tmp_path / "t").write_bytes(damage)
        with pytest.raises(ExchangeError):
            load(store, tmp_path / "t", name, "x")
    assert store.targets() == []


@SMALL
@given(name=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_a_file_cut_or_changed_anywhere_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = samples(folder)[name]
    raw = path.read_bytes()
    place, other = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.binary(max_size=4))
    path.write_bytes(raw[:place] + data.draw(st.sampled_from([b"", other + raw[place + 1 :]])))
    with open_store(folder / "lut.db") as store:
        try:
            found = load(store, path, name, "" if name in ("runtime-lut", "hw-nas-bench") else "x")
        except ExchangeError:
            assert store.targets() == []
            return
        for target, _ in found.targets:
            assert all(math.isfinite(entry.latency_ns) and entry.latency_ns > 0 for entry in store.lut(target).entries)


@pytest.mark.parametrize(
    "line",
    [
        BLOCKS[1].replace("0.994418", "nan"),
        BLOCKS[1].replace("0.994418", "-1"),
        BLOCKS[1].replace(",500", ",many"),
        BLOCKS[1].replace("0.017268", "inf"),
        BLOCKS[1].replace("Conv", "Pool"),
        BLOCKS[2].replace("28x28x48", "28x28"),
        BLOCKS[2].rsplit(",", 3)[0],
        BLOCKS[2],
    ],
)
def test_a_wrong_or_repeated_row_of_blocks_is_named(line: str, store: LutStore, tmp_path: Path) -> None:
    found = load(store, write(tmp_path, "b.csv", [*BLOCKS, line]))
    assert [row.place for row in found.refused] == [f"line {len(BLOCKS) + 1}"]
    assert found.targets[0][1] == len(BLOCKS) - 1


def test_a_device_that_no_one_names_is_asked_for(store: LutStore, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="give --device NAME"):
        load(store, samples(tmp_path)["ofa-yaml"])
    with pytest.raises(ExchangeError, match="has 3: edgegpu, pixel3, raspi4"):
        load(store, samples(tmp_path)["hw-nas-bench"], device="x")
    assert store.targets() == []


def test_devices_get_names_that_can_be_typed() -> None:
    assert device_name("Google Pixel 1 (Snapdragon 821)") == "google-pixel-1-snapdragon-821"


def test_tables_that_ship_name_their_licence(store: LutStore) -> None:
    for name, count in (("note10", 1632), ("pixel1", 72)):
        ((target, found),) = import_builtin(store, name).targets
        assert (target.device, found) == (name, count)
        assert dict(target.options)["licence"] == BUILTIN[name].licence
    with pytest.raises(ExchangeError, match="one of note10, pixel1"):
        import_builtin(store, "note11")


def test_a_table_of_blocks_prices_a_whole_space_without_the_phone(note10: LatencyLut) -> None:
    space = space_named("ofa-mobile")
    model = CostModel(build_cells(space), note10)
    genomes = space.sample_many(np.random.default_rng(0), 60)
    summed = [note10.predict(space.decode(tuple(map(int, genome)))) for genome in genomes]
    assert model.latency_ns(genomes) == pytest.approx(np.array(summed), rel=1e-12)
    assert 10e6 < min(summed) < max(summed) < 100e6


def test_a_network_costs_the_sum_of_its_rows_at_its_resolution(note10: LatencyLut) -> None:
    """Where an image size occurs at several resolutions, their rows are one operator: at most 0.5 % apart."""
    space = space_named("ofa-mobile")
    for genome in space.sample_many(np.random.default_rng(1), 30):
        chosen = dict(zip(space.index, map(int, genome), strict=True))
        found = note10.predict(space.decode(tuple(map(int, genome)))) / 1e6
        assert found == pytest.approx(sum_of_rows(chosen), rel=5e-3)


def sum_of_rows(chosen: dict[str, int]) -> float:
    """What Once-for-All's estimator would say, in ms."""
    rows = rows_of(str(chosen["resolution"]))
    size = -(-chosen["resolution"] // 2)
    total = rows["Conv", f"{size * 2}x{size * 2}x3", f"{size}x{size}x24", "", "", ""]
    total += rows["expanded_conv", f"{size}x{size}x24", f"{size}x{size}x24", "24", "3", "1"]
    enter = 24
    for stage, (width, first) in enumerate(((32, 2), (48, 2), (96, 2), (136, 1), (192, 2)), 1):
        for block in range(1, chosen[f"d{stage}"] + 1):
            stride = first if block == 1 else 1
            made = -(-size // stride)
            middle, kernel = enter * chosen[f"e{stage}_{block}"], chosen[f"k{stage}_{block}"]
            shapes = (f"{size}x{size}x{enter}", f"{made}x{made}x{width}")
            total += rows["expanded_conv", *shapes, str(middle), str(kernel), str(stride)]
            size, enter = made, width
    total += rows["Conv_1", f"{size}x{size}x192", f"{size}x{size}x1152", "", "", ""]
    total += rows["AvgPool2D", f"{size}x{size}x1152", "1x1x1152", "", "", ""]
    total += rows["Conv_2", "1x1x1152", "1x1x1536", "", "", ""]
    return total + rows["Logits", "1x1x1536", "1000", "", "", ""]


def rows_of(resolution: str) -> dict[tuple[str, ...], float]:
    path = Path(__file__).parent.parent / "lut_db/data/mbconv_luts.csv"
    with path.open() as file:
        return {
            tuple(row[name] for name in ("op", "input", "output", "expand", "kernel", "stride")): float(row["mean_ms"])
            for row in csv.DictReader(file)
            if row["table"] == "ofa_note10" and row["resolution"] == resolution
        }


def test_a_block_is_what_its_parts_are() -> None:
    """Same operators, MACs, parameters and memory as the block written out."""
    for middle, stride, squeeze in ((24, 1, 8), (24, 2, 0), (8, 1, 0)):
        block = Network("block", (1, 8, 16, 16))
        has_expand = middle != 8
        whole = block.finish(
            block.add(
                "inverted_residual", block.input, middle=middle, out_channels=8, kernel=(5, 5), stride=(stride, stride),
                expand=has_expand, squeeze=squeeze,
            )
        )  # fmt: skip
        parts = Network("parts", (1, 8, 16, 16))
        out = inverted_residual(parts, parts.input, middle, 8, 5, stride, squeeze=squeeze, expand=has_expand)
        written = parts.finish(out)
        assert [op.key for op in expand(whole).operators] == [op.key for op in expand(written).operators]
        for count in (ops.macs, ops.params):
            assert sum(map(count, whole.operators)) == sum(map(count, written.operators))
        assert network_peak_bytes(whole) == network_peak_bytes(written)


def test_memory_of_a_space_of_blocks_is_that_of_its_networks() -> None:
    space = space_named("ofa-mobile")
    genomes = space.sample_many(np.random.default_rng(2), 20)
    found = Arithmetic(build_cells(space)).memory_bytes(genomes)
    assert list(found) == [network_peak_bytes(space.decode(tuple(map(int, genome)))) for genome in genomes]


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    return (cli.run(arguments), *capfd.readouterr())


def test_the_command_line_imports_searches_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capfd, "lut", "import", "builtin:note10")[0] == 0
    space = space_named("ofa-mobile")
    genomes = space.sample_many(np.random.default_rng(3), 40)
    macs = Arithmetic(build_cells(space)).macs(genomes)
    lines = [",".join([*space.index, "accuracy_percent"])]
    lines += [",".join([*map(str, g), f"{60 + 2 * math.log(m):.3f}"]) for g, m in zip(genomes, macs, strict=True)]
    write(tmp_path, "made_up.csv", lines)
    imported = ("samples", "import", "made_up.csv", "--space", "ofa-mobile", "--dataset", "none", "--recipe", "made-up")
    assert run(capfd, *imported)[0] == 0
    asked = ("--space", "ofa-mobile", "--device", "note10", "--latency-ms", "35", "--population", "40")
    code, text, errors = run(capfd, "search", *asked, "--generations", "5", "--predictor", "ridge", "--json")
    assert code == 0, errors
    assert all(candidate["latency_ms"] <= 35 for candidate in json.loads(text))
    code, _, errors = run(capfd, "lut", "export", "out.yaml", "--format", "ofa-yaml")
    assert (code, errors) == (0, "870 rows in out.yaml\n")


def test_rows_that_are_left_out_are_told_and_end_in_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    samples(tmp_path)
    code, _, errors = run(capfd, "lut", "import", "op_lut_database.json")
    assert code == EXIT_PARTLY
    assert "line 7: 'NCHW2NHWC' is none of the operators" in errors
    code, _, errors = run(capfd, "lut", "import", "ofa.yaml")
    assert code == EXIT_ERROR
    assert "give --device NAME" in errors
    code, _, errors = run(capfd, "lut", "import", "lut.jsonl", "--format", "tflite")
    assert (code, "--format must be one of mbconv-blocks" in errors) == (EXIT_ERROR, True)


def test_origins_are_for_tables_of_other_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capfd, "lut", "import", "builtin:pixel1")[0] == 0
    assert run(capfd, "lut", "export", "t.jsonl")[0] == 0
    assert run(capfd, "lut", "import", "t.jsonl")[0] == 0
    code, _, errors = run(capfd, "lut", "import", "t.jsonl", "--licence", "MIT")
    assert (code, "are for other tools' tables" in errors) == (EXIT_USAGE, True)
