"""How a model's images pass in and out of OpenVINO: as exported, or as its convolutions want them.

Exported images are N x C x H x W. OpenVINO's convolutions have channels last and run in the precision it computes in:
a network converts its image once at the beginning, but a single operator before and behind every call, which can cost
more than the operator. With native edges it takes and gives images as its neighbours in a network would.

The change of layout stands between the operator and what quantises its edges; outside, integer kernels would be lost.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, List, Tuple

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
FLOATS = ("f32", "f16", "bf16")
DEQUANTISE = ("Convert", "Subtract", "Multiply")
QUANTISE = ("Convert", "FakeQuantize")
MOVE = "Transpose"


def lay(model: Any, inputs_last: bool, outputs_last: bool, precision: str) -> None:
    """Gives a model native edges.

    Args:
        model: as read, not compiled yet; it is changed.
        inputs_last: input images have channels last, ``outputs_last`` those of outputs.
        precision: OpenVINO's name of the type that it computes in; inputs and outputs of floats are given that type.
    """
    for index, parameter in enumerate(model.get_parameters()):
        _lay_input(model, index, parameter, inputs_last, precision)
    for result in model.get_results():
        _lay_output(result, outputs_last, precision)
    model.validate_nodes_and_infer_types()


def nodes(compiled: Any) -> List[Tuple[str, str, str]]:
    """What a CompiledModel runs, in order: kind, implementation and precision (``brgconv_avx512_f32``), output layout
    (``acdb``: channels last)."""
    told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return [
        (info["layerType"].astype(str), info["primitiveType"].astype(str), info["outputLayouts"].astype(str))
        for info in told
    ]


def moves(compiled: Any) -> int:
    """Changes of layout that stayed nodes of their own."""
    return sum(kind == MOVE for kind, _, _ in nodes(compiled))


def _lay_input(model: Any, index: int, parameter: Any, last: bool, precision: str) -> None:
    package, ops = import_module("openvino"), import_module("openvino.opset13")
    shape, kind = list(parameter.get_output_shape(0)), parameter.get_element_type().get_type_name()
    image = last and len(shape) == 4
    wanted = precision if kind in FLOATS else kind
    entry = ops.parameter([shape[axis] for axis in TO_LAST] if image else shape, getattr(package.Type, wanted))
    entry.set_friendly_name(parameter.get_friendly_name())
    entry.output(0).set_names(parameter.output(0).get_names())
    start = entry if wanted == kind else ops.convert(entry, kind)
    end = _behind(parameter.output(0), DEQUANTISE)
    readers = end.get_target_inputs()
    if end.get_node().get_type_name() != "Parameter":
        _redirect(parameter.output(0).get_target_inputs(), start.output(0))
        start = end.get_node()
    _redirect(readers, (ops.transpose(start, ops.constant(TO_FIRST)) if image else start).output(0))
    model.replace_parameter(index, entry)


def _lay_output(result: Any, last: bool, precision: str) -> None:
    ops = import_module("openvino.opset13")
    kind = result.get_element_type().get_type_name()
    if kind in FLOATS and kind != precision:
        _redirect([result.input(0)], ops.convert(result.input_value(0), precision).output(0))
    if last and len(result.get_output_shape(0)) == 4:
        at = _before(result.input(0), QUANTISE)
        _redirect([at], ops.transpose(at.get_source_output(), ops.constant(TO_LAST)).output(0))


def _behind(output: Any, kinds: Tuple[str, ...]) -> Any:
    """The last output of a chain of such nodes that starts at this output and has no branches. Each takes one number
    beside it: a product of two images is the operator itself."""
    while len(output.get_target_inputs()) == 1:
        entry = next(iter(output.get_target_inputs()))
        reader = entry.get_node()
        others = [other for other in reader.inputs() if other.get_index() != entry.get_index()]
        if reader.get_type_name() not in kinds or not all(map(_is_number, others)):
            break
        output = reader.output(0)
    return output


def _is_number(entry: Any) -> bool:
    """Whether a single number comes in here that never changes, converted or not."""
    node = entry.get_source_output().get_node()
    while node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "Constant" and all(side == 1 for side in entry.get_shape())


def _before(entry: Any, kinds: Tuple[str, ...]) -> Any:
    """The first input of a chain of such nodes that ends at this input."""
    node = entry.get_source_output().get_node()
    while node.get_type_name() in kinds:
        entry = node.input(0)
        node = entry.get_source_output().get_node()
    return entry


def _redirect(readers: Any, source: Any) -> None:
    for reader in list(readers):
        reader.replace_source_output(source)
