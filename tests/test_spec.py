"""Operator keys: canonical, and readable back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_catalog import ops
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, format_value, parse_key, parse_value
from tests.test_ops import CASES, make

sides = st.integers(1, 300)
shapes = st.lists(sides, min_size=1, max_size=4).map(tuple)
values = st.one_of(
    st.booleans(),
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(-50, 50), min_size=1, max_size=4).map(tuple),
    st.from_regex(r"[a-z_]{1,10}", fullmatch=True).filter(
        lambda text: text not in ("true", "false", "nan", "inf", "infinity")
    ),
)
attributes = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values, max_size=4)


@given(st.lists(shapes, min_size=1, max_size=3), attributes, st.sampled_from(["float32", "float16", "int8"]))
def test_a_key_parses_back_to_its_operator(
    tensors: list[tuple[int, ...]], named: dict[str, object], dtype: str
) -> None:
    op = OpSpec("conv2d", tuple(TensorSpec(shape, dtype) for shape in tensors), tuple(sorted(named.items())))  # type: ignore[arg-type]
    assert parse_key(op.key) == op


@given(values)
def test_an_attribute_value_parses_back(value: object) -> None:
    assert parse_value(format_value(value)) == value  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_a_key_or_a_spec_error(text: str) -> None:
    try:
        ops.load_op(text)
    except SpecError:
        return


@given(st.sampled_from(CASES), st.text(alphabet="0123456789x;=()abc|-.", max_size=6), st.integers(0, 80))
def test_a_damaged_key_is_an_operator_or_a_spec_error(
    case: tuple[str, str, dict[str, object]], noise: str, at: int
) -> None:
    key = make(case).key
    try:
        ops.load_op(key[:at] + noise + key[at + len(noise) :])
    except SpecError:
        return


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_key_that_loads_back_to_it(case: tuple[str, str, dict[str, object]]) -> None:
    op = make(case)
    assert ops.load_op(op.key) == op


def test_attributes_at_their_default_are_not_part_of_the_key() -> None:
    tensor = TensorSpec((1, 8, 4, 4))
    plain = ops.make_op("conv2d", tensor, out_channels=8, kernel=(1, 1))
    assert ops.make_op("conv2d", tensor, kernel=(1, 1), out_channels=8, stride=(1, 1), groups=1) == plain
    assert plain.key == "conv2d(1x8x4x4;kernel=1x1;out_channels=8;float32)"


def test_an_unknown_attribute_is_named_with_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"activation, dilation, groups.*but got colour"):
        ops.make_op("conv2d", TensorSpec((1, 8, 4, 4)), out_channels=8, kernel=(1, 1), colour="red")
