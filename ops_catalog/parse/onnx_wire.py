"""An ONNX file without its weights: large tensors keep their shape and type, and lose their data.

Works on the bytes, before any library sees them, so that memory stays small whatever the file claims.
"""

from __future__ import annotations

from ops_catalog.parse.result import ParseError

SMALL_BYTES = 1 << 13
"""A message up to this size is left as it is."""
MAX_LIGHT_BYTES = 1 << 24
MAX_DEPTH = 24
MAX_FIELDS = 500_000
"""Nodes, tensors and whatever is in the large ones of them."""

CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
}
TENSOR_DATA = frozenset({4, 5, 6, 7, 9, 10, 11})
"""Fields of a TensorProto that hold values."""


def lighten(data: bytes) -> bytes:
    """The model without the values of its large tensors.

    Raises:
        ParseError: the bytes are no protobuf message, or too many are left.
    """
    light = bytes(_message(memoryview(data), "model", 0, [MAX_FIELDS]))
    if len(light) > MAX_LIGHT_BYTES:
        raise ParseError(
            f"a model without weights must be at most {MAX_LIGHT_BYTES} bytes, but got {len(light)}; split the model"
        )
    return light


def _message(data: memoryview, kind: str, depth: int, left: list[int]) -> bytearray:
    """``left`` holds how many fields may still be read."""
    if depth > MAX_DEPTH:
        raise ParseError(f"graphs must be nested at most {MAX_DEPTH} deep; take the model apart")
    out, at, end = bytearray(), 0, len(data)
    children = CHILDREN.get(kind, {})
    while at < end:
        first, left[0] = at, left[0] - 1
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            size, at = _varint(data, at)
            body, at = data[at : at + size], at + size
        else:
            at = _skip(data, at, wire)
        if left[0] < 0:
            raise ParseError(f"a model must have at most {MAX_FIELDS} fields; split the model")
        if at > end or number == 0:
            raise ParseError(_broken())
        if wire == 2 and number in children and size > SMALL_BYTES:
            inner = _message(body, children[number], depth + 1, left)
            out += _encoded(tag) + _encoded(len(inner)) + inner
        elif kind != "tensor" or number not in TENSOR_DATA:
            out += data[first:at]
        if len(out) > MAX_LIGHT_BYTES + SMALL_BYTES:
            raise ParseError(f"a model without weights must be at most {MAX_LIGHT_BYTES} bytes; split the model")
    return out


def _skip(data: memoryview, at: int, wire: int) -> int:
    if wire == 0:
        return _varint(data, at)[1]
    if wire in (1, 5):
        return at + (8 if wire == 1 else 4)
    raise ParseError(_broken())


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70 and at < len(data):
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ParseError(_broken())


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _broken() -> str:
    return "a model must be a whole ONNX or TFLite file, but got bytes that are neither; export it again"
