"""The file that ``benchmark_model --result_file_path`` writes -> a Timing. Pure; no protobuf library needed.

It is a message BenchmarkResult of ``tflite/tools/benchmark/proto/benchmark_result.proto`` (TensorFlow, 2025), whose
field numbers stand below. It says nothing of delegates. Newer builds only; finer than LiteRT's text, which has 10 us.
"""

from __future__ import annotations

import struct
from typing import Dict, Tuple, Union

from agent.engines.benchmark_blocks import Block, UnknownOutput, check_block
from agent.engines.benchmark_output import Timing

LATENCY, MISC = 2, 4
NUM_RUNS = 2
MILLISECONDS = {
    "avg": 1, "min": 2, "max": 3, "std": 4, "median": 5, "p5": 6, "p95": 7, "init": 8,
}  # fmt: skip

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
Field = Union[int, bytes]


def parse_result_proto(data: bytes) -> Timing:
    """Raises UnknownOutput for a file that is cut, repeats a field, or lacks the measured runs."""
    result = _fields(data)
    latency, misc = _message(result, LATENCY), _message(result, MISC)
    count = misc.get(NUM_RUNS)
    if not isinstance(count, int) or count < 1:
        raise UnknownOutput("a result file must tell of at least one run, but got {!r}".format(count))
    ns = {name: _ns(latency, number, name) for name, number in MILLISECONDS.items()}
    check_block(
        Block(
            count, ns["avg"], None, ns["std"], ns["min"], ns["max"], ns["p5"], ns["median"], ns["p95"]
        )
    )  # fmt: skip
    return Timing(
        count,
        ns["avg"],
        ns["std"],
        ns["min"],
        ns["max"],
        ns["p5"],
        ns["median"],
        ns["p95"],
        ns["init"],
        "unknown",
        None,
    )


def _message(fields: Dict[int, Field], number: int) -> Dict[int, Field]:
    body = fields.get(number)
    if not isinstance(body, bytes):
        raise UnknownOutput("a result file must have the message {}, but got {}".format(number, sorted(fields)))
    return _fields(body)


def _ns(latency: Dict[int, Field], number: int, name: str) -> float:
    """A float of ms as whole ns: it has 24 bits, and the clock behind it counts us."""
    raw = latency.get(number)
    if not isinstance(raw, bytes) or len(raw) != 4:
        raise UnknownOutput("a result file must have {}_ms, but got {!r}".format(name, raw))
    ms = struct.unpack("<f", raw)[0]
    if not 0 <= ms < float("inf"):
        raise UnknownOutput("{}_ms must be a time, but got {}".format(name, ms))
    return float(round(ms * 1_000_000))


def _fields(data: bytes) -> Dict[int, Field]:
    """Field number -> value: an int, or the bytes of anything else."""
    fields: Dict[int, Field] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _value(data, at, tag & 7)
        if tag >> 3 in fields or tag >> 3 == 0:
            raise UnknownOutput("a field must be there once, but got field {} again".format(tag >> 3))
        fields[tag >> 3] = value
    return fields


def _value(data: bytes, at: int, kind: int) -> Tuple[Field, int]:
    if kind == _VARINT:
        return _varint(data, at)
    if kind == _BYTES:
        length, at = _varint(data, at)
    elif kind in (_FIXED32, _FIXED64):
        length = 4 if kind == _FIXED32 else 8
    else:
        raise UnknownOutput("a field must be of a known kind, but got {}".format(kind))
    if at + length > len(data):
        raise UnknownOutput("a result file must be whole, but it ends {} bytes early".format(at + length - len(data)))
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise UnknownOutput("a result file must be whole, but a number in it is not")
