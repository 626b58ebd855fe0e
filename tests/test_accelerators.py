"""What an accelerator needs and what it can run."""

from __future__ import annotations

from typing import Any

import pytest

from host.accelerators import (
    ACCELERATORS,
    benchmark_environment,
    benchmark_flags,
    missing_files,
    needed_files,
    objection,
    runnable,
    supports,
)
from host.errors import UsageError
from ops_catalog.ops import OPS, make_op
from ops_catalog.spec import OpSpec, TensorSpec

IMAGE = (1, 16, 32, 32)


def op(kind: str, *shapes: tuple[int, ...], dtype: str = "int8", **attributes: Any) -> OpSpec:
    return make_op(kind, *(TensorSpec(shape, dtype) for shape in shapes or (IMAGE,)), **attributes)


def conv(**attributes: Any) -> OpSpec:
    return op("conv2d", out_channels=16, **{"kernel": (3, 3), **attributes})


def depthwise(**attributes: Any) -> OpSpec:
    return op("depthwise_conv2d", **{"kernel": (3, 3), **attributes})


TAKEN = [
    op("add", IMAGE, IMAGE, activation="relu6"),
    op("average_pool", kernel=(2, 2), stride=(2, 2)),
    op("concat", IMAGE, IMAGE),
    conv(stride=(3, 3), activation="relu6"),
    conv(activation="hard_swish"),
    conv(activation="silu"),
    depthwise(stride=(2, 2)),
    depthwise(kernel=(2, 1)),
    depthwise(dilation=(2, 2)),
    op("global_average_pool"),
    op("hard_swish"),
    op("linear", (1, 64), out_features=10),
    op("max_pool", kernel=(3, 3), stride=(2, 2)),
    op("mul", IMAGE, (1, 16, 1, 1)),
    op("pad", pads=(1, 1, 1, 1)),
    op("relu"),
    op("relu6"),
    op("reshape", shape=(1, -1)),
    op("resize", size=(65, 65), mode="bilinear"),
    op("resize", size=(128, 128)),
    op("sigmoid"),
    op("softmax", (1, 10)),
    op("transpose", perm=(0, 2, 3, 1)),
]
REFUSED = [
    (conv(stride=(4, 1)), "stride must be at most 3"),
    (conv(dilation=(2, 2)), "dilated"),
    (conv(groups=4), "one group"),
    (conv(activation="gelu"), "gelu"),
    (depthwise(kernel=(1, 3)), "at least 2 high"),
    (depthwise(stride=(4, 4)), "stride must be at most 3"),
    (op("batch_norm"), "at least 2 high"),
    (op("gelu"), "does not take gelu"),
    (op("linear", (1, 7, 64), out_features=10), "on a matrix"),
    (op("matmul", (2, 8, 8), (2, 8, 8)), "does not take matmul"),
    (op("max_pool", kernel=(13, 13), stride=(2, 2)), "at most 12"),
    (op("max_pool", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)), "lowest value"),
    (op("resize", size=(66, 65), mode="bilinear"), "at most 65"),
    (op("relu", (1, 2, 3, 4, 5)), "at most 4 axes"),
    (op("reshape", shape=(1, 2, 8, 32, 32)), "at most 4 axes"),
    (op("relu", dtype="float32"), "int8 only"),
    (OpSpec("warp", (TensorSpec(IMAGE, "int8"),)), "warp is no known operator"),
]


@pytest.mark.parametrize("taken", TAKEN, ids=lambda one: one.key)
def test_the_hexagon_delegate_takes_what_its_rules_allow(taken: OpSpec) -> None:
    assert objection("hexagon", taken) is None


@pytest.mark.parametrize(("refused", "reason"), REFUSED, ids=lambda one: getattr(one, "key", None))
def test_the_hexagon_delegate_refuses_with_the_reason(refused: OpSpec, reason: str) -> None:
    assert reason in str(objection("hexagon", refused))


def test_a_dilated_depthwise_convolution_must_not_stride() -> None:
    strided = depthwise(dilation=(2, 2), stride=(2, 2), padding="valid")
    assert "stride 1" in str(objection("hexagon", strided))


def test_runnable_parts_operators_and_keeps_their_order() -> None:
    refused = [one for one, _ in REFUSED]
    kept, reasons = runnable("hexagon", [*TAKEN, *refused])
    assert kept == tuple(TAKEN)
    assert reasons.keys() == {one.key for one in refused}


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_accelerator_has_an_opinion_of_every_operator_type(name: str) -> None:
    for kind in OPS:
        found = objection(name, OpSpec(kind, (TensorSpec(IMAGE, "float64"),)))
        assert found is not None
        assert "float64" in found


def test_the_cpu_takes_everything_and_needs_no_confirmation() -> None:
    assert all(objection("cpu", one) is None for one in TAKEN)
    assert [name for name, entry in ACCELERATORS.items() if not entry.confirm] == ["cpu"]
    assert benchmark_flags("cpu", "float32") == []


@pytest.mark.parametrize("name", [name for name in ACCELERATORS if name != "cpu"])
def test_every_delegate_is_asked_to_take_all_or_nothing(name: str) -> None:
    assert "--require_full_delegation=true" in benchmark_flags(name, "int8", "/d")


def test_hexagon_gets_its_flags_and_search_paths() -> None:
    assert benchmark_flags("hexagon", "int8", "/d")[:2] == ["--use_hexagon=true", "--hexagon_lib_path=/d"]
    assert benchmark_environment("hexagon", "/d") == {
        "LD_LIBRARY_PATH": "/d",
        "ADSP_LIBRARY_PATH": "/d;/system/lib/rfsa/adsp;/system/vendor/lib/rfsa/adsp;/dsp",
    }


def test_qnn_gets_its_delegate_and_options() -> None:
    path, options, _ = benchmark_flags("qnn-htp", "int8", "/d")
    assert path == "--external_delegate_path=/d/libQnnTFLiteDelegate.so"
    assert "backend_type:htp;library_path:/d/libQnnHtp.so;skel_library_dir:/d;" in options


def test_the_gpu_loses_precision_only_where_the_model_has_none() -> None:
    assert "--gpu_precision_loss_allowed=false" in benchmark_flags("gpu", "float32")
    assert "--gpu_precision_loss_allowed=true" in benchmark_flags("gpu", "float16")


@pytest.mark.parametrize(
    ("name", "version", "file"),
    [
        ("hexagon", "v62", "libhexagon_nn_skel.so"),
        ("hexagon", "v65", "libhexagon_nn_skel_v65.so"),
        ("hexagon", "v66", "libhexagon_nn_skel_v66.so"),
        ("qnn-htp", "v73", "libQnnHtpV73Skel.so"),
    ],
)
def test_the_chip_decides_which_files_are_needed(name: str, version: str, file: str) -> None:
    assert file in needed_files(name, version)
    assert supports(name, version) is None
    assert missing_files(name, version, needed_files(name, version)) == ()
    assert missing_files(name, version, set(needed_files(name, version)) - {file}) == (file,)


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("qnn-htp", "v62", "there is no QNN"),
        ("qnn-htp", "v65", "use hexagon"),
        ("hexagon", "v68", "use qnn-htp"),
        ("hexagon", None, "none that is known"),
        ("qnn-htp", "v99", "use nnapi, gpu or cpu"),
    ],
)
def test_a_chip_that_cannot_is_told_what_to_use_instead(name: str, version: str | None, reason: str) -> None:
    assert reason in str(supports(name, version))


def test_cpu_gpu_and_nnapi_need_no_hexagon() -> None:
    assert [supports(name, None) for name in ("cpu", "gpu", "nnapi")] == [None] * 3


def test_an_unknown_accelerator_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="hexagon"):
        supports("warp", "v62")
