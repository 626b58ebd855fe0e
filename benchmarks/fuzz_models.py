"""Damaged model files through the parser: nothing may crash it, nor take long, nor fill the memory.

    python -m benchmarks.fuzz_models --files 2000

A child process parses; it has a memory limit, and is ended by a file that takes longer than LONGEST_S. A file
ends as whole (all nodes understood), partial (some listed as unknown), refused (ParseError), or as a crash, whose seed
is printed: ``python -m benchmarks.fuzz_models --format onnx --seed SEED`` shows it again.
"""

from __future__ import annotations

import argparse
import resource
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ops_catalog.build import Network, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.parse import ParseError, parse_model
from ops_catalog.spec import Graph

FORMATS = ("onnx", "tflite")
LONGEST_S = 10.0
MEMORY_BYTES = 1 << 30
"""Address space that a child may take beyond what it has after its imports."""
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**16, 2**24, 255)
OTHERS = ("Conv", "Reshape", "If", "Tile", "Einsum", "Expand", "LSTM", "Gemm", "Split", "Resize", "Slice", "Range",
          "ConstantOfShape", "Concat", "Pad", "Squeeze")  # fmt: skip
BIG = (0, -1, 1, 2**31, 2**40, 2**62, -(2**62), 7)


def tiny_networks() -> tuple[Graph, ...]:
    """Small files, so that damage meets structure and not weights."""
    net = Network("mobile", (1, 3, 16, 16))
    x = conv(net, net.input, 4, 3, 2, "hard_swish")
    x = inverted_residual(net, x, 8, 4, 3, 1, "relu6", squeeze=2)
    x = net.add("max_pool", x, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    x = net.add("concat", x, net.add("resize", net.add("average_pool", x, kernel=(2, 2), stride=(2, 2)), size=(4, 4)))
    mobile = net.finish(classifier(net, conv(net, x, 8, activation="silu"), 3))
    net = Network("tokens", (1, 4, 3, 5))
    tokens = net.add("transpose", net.add("reshape", net.input, shape=(1, 4, 15)), perm=(0, 2, 1))
    scores = net.add("softmax", net.add("matmul", tokens, tokens, transpose_b=True))
    mixed = net.add("linear", net.add("matmul", scores, tokens), out_features=6, activation="gelu")
    tokens = net.finish(net.add("layer_norm", net.add("linear", mixed, out_features=4)))
    return (mobile, tokens)


@cache
def samples(file_format: str) -> tuple[bytes, ...]:
    mobile, tokens = tiny_networks()
    graphs = [with_dtype(mobile, dtype) for dtype in ("float32", "float16", "int8")] + [tokens]
    return tuple(export_graph(graph, file_format) for graph in graphs)


def damaged(file_format: str, seed: int) -> bytes:
    """A sample with one to four damages, the same for the same seed."""
    rng = np.random.default_rng(seed)
    files = samples(file_format)
    data = files[rng.integers(len(files))]
    kinds: list[Callable[[bytes, np.random.Generator], bytes]] = [flip, shuffle, set_integers, truncate]
    edit = edit_fields if file_format == "onnx" else edit_tables
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.6:
            data = edit(data, rng)
        else:
            data = kinds[rng.choice(len(kinds), p=(0.4, 0.15, 0.35, 0.1))](data, rng)
    return data


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, max(1, len(out)), rng.integers(1, 6)):
        if out:
            out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(0, len(data) + 1)]


def shuffle(data: bytes, rng: np.random.Generator) -> bytes:
    """Two chunks change places, or one is doubled."""
    a, b, c, d = sorted(int(place) for place in rng.integers(0, len(data) + 1, 4))
    if rng.random() < 0.5:
        return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
    return data[:b] + data[a:b] + data[b:]


def set_integers(data: bytes, rng: np.random.Generator) -> bytes:
    """Offsets, lengths and sizes become extreme, or that of another place."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        if len(out) < 8:
            break
        place = 4 * int(rng.integers(0, len(out) // 4))
        value = EXTREMES[rng.integers(len(EXTREMES))] if rng.random() < 0.7 else int(rng.integers(0, len(out)))
        out[place : place + 4] = int(value).to_bytes(4, "little", signed=value < 0)
    return bytes(out)


def edit_tables(data: bytes, rng: np.random.Generator) -> bytes:
    """Another value in a field of a tensor, an operator or its options of a TFLite model that can still be read."""
    import tflite

    out = bytearray(data)
    try:
        graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
        for _ in range(rng.integers(1, 4)):
            place = _field(graph, rng)
            value = EXTREMES[rng.integers(len(EXTREMES))] if rng.random() < 0.4 else int(rng.integers(-2, 40))
            out[place : place + 4] = int(value).to_bytes(4, "little", signed=value < 0)
    except Exception:  # a damaged model
        return data
    return bytes(out)


def _field(graph: Any, rng: np.random.Generator) -> int:
    """Where a field is stored: an element of a shape or of a list of tensors, or a number among the options."""
    operator = graph.Operators(int(rng.integers(graph.OperatorsLength())))
    tensor = graph.Tensors(int(rng.integers(graph.TensorsLength())))
    table, slot = ((tensor._tab, 4), (operator._tab, 6), (operator._tab, 8), (operator.BuiltinOptions(), None))[
        rng.integers(4)
    ]
    if slot is None:
        return int(table.Pos + table.Offset(4 + 2 * int(rng.integers(6))))
    place = table.Offset(slot)
    return int(table.Vector(place) + 4 * int(rng.integers(max(1, table.VectorLen(place)))))


def edit_fields(data: bytes, rng: np.random.Generator) -> bytes:
    """Another value in a field of an ONNX model that can still be read; the bytes themselves where it cannot."""
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        for _ in range(rng.integers(1, 5)):
            _edit(model, rng)
        return bytes(model.SerializeToString())
    except Exception:  # a damaged model
        return data


def _edit(model: Any, rng: np.random.Generator) -> None:
    from onnx import AttributeProto, helper

    graph = model.graph
    node = graph.node[rng.integers(len(graph.node))]
    other = graph.node[rng.integers(len(graph.node))]
    constant = graph.initializer[rng.integers(len(graph.initializer))]
    big = BIG[rng.integers(len(BIG))]
    match int(rng.integers(14)):
        case 0:
            constant.dims[:] = [*constant.dims[:-1], big]
        case 1:
            constant.dims.extend([big] * int(rng.integers(1, 12)))
        case 2:
            node.input[:] = [other.output[0], *node.input[1:]]
        case 3:
            node.input[:] = [*node.input, "nowhere"][:: int(rng.choice((1, -1)))]
        case 4:
            node.op_type = str(rng.choice(OTHERS))
        case 5:
            node.domain = "com.example"
        case 6:
            node.ClearField("output" if rng.random() < 0.3 else "input")
        case 7:
            for entry in node.attribute:
                entry.ints[:] = [big] * int(rng.integers(0, 6))
                entry.i, entry.f = big, float(rng.choice((np.nan, np.inf, -1e38, 0)))
        case 8:
            for entry in node.attribute:
                entry.type = int(rng.integers(0, 15))
        case 9:
            model.opset_import[0].version = big
        case 10:
            constant.data_location = 1
            constant.ClearField("raw_data")
            constant.external_data.add(key="location", value="../../../etc/passwd")
        case 11:
            inner = helper.make_graph([other], "inner", [], [])
            node.attribute.append(AttributeProto(name="then_branch", type=AttributeProto.GRAPH, g=inner))
        case 12:
            entry = graph.input[0].type.tensor_type.shape.dim[rng.integers(4)]
            entry.dim_value = big
        case _:
            constant.data_type = int(rng.integers(-1, 30))
            node.output[:] = [*node.output, *other.output]


def outcome(data: bytes) -> str:
    try:
        parsed = parse_model(data)
    except ParseError as error:
        return "refused" if "\n" not in str(error) else "crashed:lines"
    return "partial" if parsed.unknown else "whole"


def parse_as_told(file_format: str) -> None:
    """The child: reads seeds, writes how each ended; limits its own memory."""
    for data in samples(file_format):
        outcome(data)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    start = _peak_bytes()
    for line in sys.stdin:
        data = damaged(file_format, int(line))
        began = time.perf_counter()
        try:
            found = outcome(data)
        except BaseException as error:
            found = f"crashed:{type(error).__name__}"
        print(found, time.perf_counter() - began, _peak_bytes() - start, flush=True)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _start(file_format: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz_models", "--child", file_format]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fuzz(file_format: str, files: int, first: int) -> bool:
    """Prints what became of the files; whether none crashed."""
    counts: Counter[str] = Counter()
    slowest, peak, crashes = 0.0, 0, []
    child = _start(file_format)
    for seed in range(first, first + files):
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{seed}\n")
        child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], LONGEST_S + 30 * (seed == first))
        line = child.stdout.readline() if ready else "crashed:timeout 0 0"
        if not line or line.startswith("crashed:timeout"):
            child.kill()
            line = line or f"crashed:signal{-child.wait()} 0 0"
            child.wait()
            child = _start(file_format)
        found, seconds, grown = line.split()
        counts[found.split(":")[0]] += 1
        slowest, peak = max(slowest, float(seconds)), max(peak, int(grown))
        if found.startswith("crashed"):
            crashes.append(f"{seed} ({found})")
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
    ends = ", ".join(f"{name} {counts[name]}" for name in ("whole", "partial", "refused", "crashed"))
    print(f"{file_format}: {files} files: {ends}; slowest {slowest * 1e3:.0f} ms, peak +{peak / 2**20:.0f} MiB")
    for crash in crashes[:20]:
        print(f"  crashed: seed {crash}")
    return not crashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="of each format")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument("--seed", type=int, help="parse one file here, with its traceback")
    parser.add_argument("--child", choices=FORMATS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        parse_as_told(chosen.child)
    elif chosen.seed is not None:
        print(outcome(damaged(chosen.format or FORMATS[0], chosen.seed)))
    else:
        formats = (chosen.format,) if chosen.format else FORMATS
        sound = [fuzz(name, chosen.files, chosen.first) for name in formats]
        sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
