"""Uploaded models: good ones are priced, and bad ones cost their sender an error and the service nothing."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import ModelProto, TensorProto, helper

from benchmarks.fuzz_models import damaged
from host.api.parse_worker import answer
from host.api.problems import Problem
from host.api.uploads import ParseLimits, Parser
from host.predict import open_predictor
from ops_catalog.build import single
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from tests.api_service import NETWORK, Served, fill_with_network, in_process, new_token, serve
from tests.test_ops import CASES
from tests.test_ops import make as make_op

PATH = "/v1/predictions/model"
OCTETS = {"content-type": "application/octet-stream"}
SEEDS = range(12)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uploads") / "lut.db"
    fill_with_network(path)
    return path


@pytest.fixture(scope="module")
def token(db: Path) -> str:
    return new_token(db, "uploads")


@pytest.fixture(scope="module")
def served(db: Path, token: str) -> Iterator[Served]:
    """A real service on a real socket."""
    with serve(db, "--no-jobs", "--max-upload-mb", "16", "--rate", "0") as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served, token: str) -> Iterator[httpx.Client]:
    with served.client(token) as client:
        yield client


def send(client: httpx.Client, model: bytes, **asked: Any) -> httpx.Response:
    return client.post(PATH, params={"target": "fake", **asked}, content=model, headers=OCTETS)


def model_file(suffix: str = "onnx") -> bytes:
    return export_graph(build_network(NETWORK), suffix)


def onnx_model(*nodes: Any, weights: tuple[TensorProto, ...] = (), sides: tuple[Any, ...] = (1, 3, 8, 8)) -> bytes:
    """From x to y."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in "xy"]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(weights))
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


RELU = helper.make_node("Relu", ["x"], ["y"])
CONV = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])


def weight(*sides: int, location: str = "") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=sides)
    if location:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return tensor


def field(number: int, body: bytes) -> bytes:
    """A protobuf field that holds bytes."""
    size, length = len(body), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + body


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs, deeper than any reader should follow."""
    body = b""
    for _ in range(depth):
        body = field(1, field(5, field(6, body)))
    return b"\x08\x08" + field(7, body)


def stretched(model: bytes) -> bytes:
    """A TFLite model of which a tensor claims 2 x 10^9 channels."""
    sides = b"".join(side.to_bytes(4, "little") for side in (1, 96, 96, 3))
    assert sides in model
    return model.replace(sides, sides[:12] + (2_000_000_000).to_bytes(4, "little"))


def chain(length: int) -> bytes:
    """As many nodes as a file may have, a second's work and more."""
    names = ["x", *(f"t{i}" for i in range(length - 1)), "y"]
    return onnx_model(*(helper.make_node("Mul", [a, "x"], [b]) for a, b in pairwise(names)))


BAD: dict[str, Callable[[], bytes]] = {
    "random bytes": lambda: bytes(range(7, 256)) * 40,
    "one byte": lambda: b"\x08",
    "a truncated ONNX file": lambda: model_file()[: len(model_file()) // 2],
    "a truncated TFLite file": lambda: model_file("tflite")[: len(model_file("tflite")) // 3],
    "a TFLite file's first bytes": lambda: model_file("tflite")[:64],
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(500),
    "a zip file": lambda: b"PK\x03\x04" + bytes(500),
    "a gzip bomb": lambda: gzip.compress(bytes(10_000_000)),
    "text": lambda: b"{" + b'"a": 1, ' * 500 + b"}",
    "two models, one after the other": lambda: model_file() * 2,
    "two of different kinds": lambda: model_file() + model_file("tflite"),
    "an input of 2^93 elements": lambda: onnx_model(RELU, sides=(1, 2**31, 2**31, 2**31)),
    "a weight of 2^40 channels": lambda: onnx_model(CONV, weights=(weight(2**40, 3, 3, 3),)),
    "a TFLite tensor of 2 x 10^9 channels": lambda: stretched(model_file("tflite")),
    "an open side": lambda: onnx_model(RELU, sides=("batch", 3, 8, 8)),
    "a field of 2^63 bytes": lambda: b"\x08\x08\x3a" + b"\xff" * 8 + b"\x7f",
    "600,000 fields": lambda: b"\x08\x08" * 600_000,
    "graphs 3,000 deep": lambda: nested(3000),
    "graphs 60 deep, but small": lambda: nested(60),
    "a tensor made of itself": lambda: onnx_model(helper.make_node("Add", ["x", "y"], ["y"])),
    "a cycle": lambda: onnx_model(
        helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), RELU
    ),
    "no node": lambda: onnx_model(),
    "more nodes than may be": lambda: chain(20_001),
}


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_an_uploaded_model_costs_what_its_network_does(client: httpx.Client, db: Path, suffix: str) -> None:
    found = send(client, model_file(suffix), name="mine")
    expected = open_predictor(db, "fake").predict(build_network(NETWORK))
    assert found.status_code == 200, found.text
    assert found.json()["network"] == "mine"
    assert found.json()["latency_ns"] == pytest.approx(expected.latency_ms * 1e6)
    assert [part.partition(";")[0] for part in found.headers["server-timing"].split(", ")] == ["read", "price"]


@pytest.mark.parametrize("what", BAD)
def test_a_bad_upload_is_a_problem_of_its_sender(client: httpx.Client, what: str) -> None:
    found = send(client, BAD[what]())
    assert 400 <= found.status_code < 500, found.text
    assert found.headers["content-type"] == "application/problem+json"
    assert len(found.json()["detail"]) > 20
    assert "\n" not in found.json()["detail"]


def test_the_service_is_well_after_bad_uploads(client: httpx.Client) -> None:
    for what in ("random bytes", "600,000 fields", "graphs 3,000 deep"):
        send(client, BAD[what]())
    assert send(client, model_file()).status_code == 200


@pytest.mark.parametrize("file_format", ["onnx", "tflite"])
def test_damaged_models_are_priced_or_refused(client: httpx.Client, file_format: str) -> None:
    statuses = [send(client, damaged(file_format, seed)).status_code for seed in SEEDS]
    assert set(statuses) <= {200, 413, 422}


def test_nodes_that_are_not_understood_are_listed_with_the_rest(client: httpx.Client) -> None:
    model = onnx_model(helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Einsum", ["a"], ["y"], equation="a"))
    problem = send(client, model, target="litert").json()
    assert [node["type"] for node in problem["unknown"]] == ["Einsum"]
    assert problem["partial"]["operators"][0]["key"] == "relu(1x3x8x8;float32)"


def test_a_model_of_known_operators_and_one_that_is_not_is_no_whole_price(client: httpx.Client) -> None:
    model = ModelProto.FromString(model_file())
    model.graph.node.append(helper.make_node("Einsum", [model.graph.output[0].name], ["more"], equation="ab"))
    found = send(client, model.SerializeToString())
    assert (found.status_code, found.json()["type"]) == (422, "urn:chamnet:problem:unknown-nodes")
    assert found.json()["missing"] == []
    assert found.json()["partial"]["latency_ns"] > 0


def test_a_side_that_is_left_open_can_be_given(client: httpx.Client) -> None:
    model = onnx_model(RELU, sides=("batch", 3, 8, 8))
    refused = send(client, model).json()
    assert "give one with shape=x=1x3x8x8" in refused["detail"]
    given = send(client, model, shape="x=1x3x8x8", target="litert")
    assert given.json()["partial"]["operators"][0]["key"] == "relu(1x3x8x8;float32)"


@pytest.mark.parametrize("shape", ["x", "x=", "x=1xax3", "x=0x1", f"x={'9' * 5000}", "x=1x2x3x4x5x6x7x8x9", "y" * 600])
def test_a_shape_must_read_like_one(client: httpx.Client, shape: str) -> None:
    assert send(client, onnx_model(RELU), shape=shape).status_code == 422


def test_weights_in_other_files_are_not_looked_for(client: httpx.Client, tmp_path: Path) -> None:
    """Opening the FIFO would wait for a writer, and the upload would end as one that takes too long."""
    fifo = tmp_path / "weights"
    os.mkfifo(fifo)
    for location in (str(fifo), "/etc/passwd", "../../../../etc/passwd"):
        found = send(client, onnx_model(CONV, weights=(weight(8, 3, 3, 3, location=location),)))
        assert found.json()["partial"]["operators"][0]["key"].startswith("conv2d(1x3x8x8;kernel=3x3;out_channels=8")
    with pytest.raises(OSError, match="No such device"):
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # nobody has it open for reading


def test_a_child_can_open_nothing_and_start_nothing() -> None:
    program = (
        "import os, socket, subprocess, sys\n"
        "from host.api.parse_worker import confine, import_all\n"
        "import_all(); confine(1 << 28, 5)\n"
        "for act in (lambda: open('/etc/passwd'), socket.socket, lambda: os.listdir('/'),\n"
        "            lambda: subprocess.run(['true']), lambda: bytearray(1 << 29)):\n"
        "    try: act(); print('done')\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["OSError", "OSError", "OSError", "OSError", "MemoryError"]


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_child_has_all_it_needs_before_it_is_confined(suffix: str) -> None:
    """Whatever parsing imports later would be missing: every operator goes through a confined child."""
    graphs = [single(make_op(case)) for case in CASES]
    assert len({graph.nodes[0].op.type for graph in graphs}) > 20
    blobs = [export_graph(graph, suffix) for graph in graphs]
    program = (
        "import io, sys\n"
        "from host.api.parse_worker import answer, confine, import_all\n"
        "import_all(); before = set(sys.modules); confine(1 << 30, 60)\n"
        "while size := int(sys.stdin.buffer.readline()):\n"
        "    data = sys.stdin.buffer.read(size)\n"
        "    answer({'length': size, 'shapes': {}, 'name': ''}, io.BytesIO(data))\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    fed = b"".join(b"%d\n" % len(blob) + blob for blob in blobs) + b"0\n"
    out = subprocess.run([sys.executable, "-c", program], input=fed, capture_output=True, check=True).stdout
    assert out == b"[]\n"


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"content-type": "application/json"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "br, identity"}, 415),
    ],
)
def test_a_body_must_be_the_models_bytes(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    found = client.post(PATH, params={"target": "fake"}, content=model_file(), headers=OCTETS | headers)
    assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json")


def test_an_empty_body_is_no_model(client: httpx.Client) -> None:
    assert send(client, b"").json()["type"] == "urn:chamnet:problem:not-a-model"


def test_a_body_must_say_how_long_it_is(client: httpx.Client) -> None:
    pieces = iter([model_file()[:100], model_file()[100:]])
    assert client.post(PATH, params={"target": "fake"}, content=pieces, headers=OCTETS).status_code == 411


def test_a_body_may_not_be_larger_than_allowed(client: httpx.Client) -> None:
    assert send(client, bytes(17 << 20)).status_code == 413


def test_who_may_not_write_is_refused_before_a_byte_is_read(db: Path, served: Served) -> None:
    reader = new_token(db, "reader", ("read",))
    for secret, status in (("", 401), ("chamnet_" + "x" * 43, 401), (reader, 403)):
        with served.client(secret) as client:
            assert send(client, bytes(8 << 20)).status_code == status


def test_an_upload_that_is_broken_off_leaves_nothing_behind(served: Served, client: httpx.Client, token: str) -> None:
    url = httpx.URL(served.url)
    head = f"POST {PATH}?target=fake HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {token}\r\n"
    for _ in range(4):
        with socket.create_connection((url.host, url.port or 80)) as connection:
            connection.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n" + model_file()[:5000])
    assert send(client, model_file()).status_code == 200
    assert settled(lambda: [child for nursery in parsing(served.process.pid) for child in parsing(nursery)], 0)


def test_many_upload_at_once(client: httpx.Client) -> None:
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: send(client, model_file()).status_code, range(12)))
    assert statuses == [200] * 12


def test_the_process_that_makes_children_is_made_again(served: Served, client: httpx.Client) -> None:
    (lost,) = parsing(served.process.pid)
    os.kill(lost, signal.SIGKILL)
    assert send(client, model_file()).status_code == 200
    assert parsing(served.process.pid) not in ([], [lost])


def test_no_process_outlives_its_service(db: Path, token: str) -> None:
    with serve(db, "--no-jobs") as served:
        with served.client(token) as client:
            assert send(client, model_file()).status_code == 200
        (nursery,) = parsing(served.process.pid)
        served.process.kill()
        served.process.wait()
    assert settled(lambda: [nursery] if is_running(nursery) else [], 0)


@pytest.mark.parametrize(
    "limits, status, words",
    [
        (ParseLimits(memory_mb=1), 413, "1 MiB of memory"),
        (ParseLimits(cpu_s=0), 422, "0 s of processor time"),
        (ParseLimits(wall_s=0.01), 422, "within 0.01 s"),
    ],
)
def test_a_model_that_takes_more_than_the_limits_is_told_so(limits: ParseLimits, status: int, words: str) -> None:
    model = chain(19_000)
    with pytest.raises(Problem, match=words) as caught:
        parse(limits, pieces(model), len(model))
    assert caught.value.status == status


def test_an_upload_that_stalls_is_ended() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"\x08\x08"
        await asyncio.sleep(3600)

    with pytest.raises(Problem, match="an upload must go on") as caught:
        parse(ParseLimits(idle_s=0.05), slow(), 100)
    assert caught.value.status == 408


def test_who_comes_while_all_are_busy_is_asked_to_come_again() -> None:
    with pytest.raises(Problem, match="at most 0 models") as caught:
        parse(ParseLimits(at_once=0, idle_s=0.05), pieces(model_file()), 1)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "10"})


def test_a_child_that_got_less_than_was_announced_says_so(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"\x08\x08")
    with part.open("rb") as file:
        assert "ended early" in answer({"length": 100, "shapes": {}, "name": ""}, file)["error"]


def test_an_upload_is_described_for_programs(db: Path) -> None:
    with in_process(db) as client:
        operation = client.get("/v1/openapi.json").json()["paths"][PATH]["post"]
    assert operation["operationId"] == "predict_model"
    assert list(operation["requestBody"]["content"]) == ["application/octet-stream"]
    assert {"401", "403", "408", "411", "413", "415", "422"} <= operation["responses"].keys()


def parse(limits: ParseLimits, source: AsyncIterator[bytes], size: int) -> None:
    async def run() -> None:
        parser = Parser(limits)
        try:
            await parser.parse(source, size, {}, "model")
        finally:
            await parser.close()

    asyncio.run(run())


async def pieces(model: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(model), 1 << 16):
        yield model[start : start + (1 << 16)]


def parsing(parent: int) -> list[int]:
    """Children of a process that run the parser."""
    return [pid for pid in running() if stat_of(pid)[1] == str(parent) and b"host.api.parse_worker" in command_of(pid)]


def running() -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if is_running(pid)]


def stat_of(pid: int) -> list[str]:
    """State, parent and so on; a zombie's where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_running(pid: int) -> bool:
    return stat_of(pid)[0] not in "ZX"


def settled(count: Callable[[], list[int]], expected: int) -> bool:
    """Whether there are soon so many."""
    until = time.monotonic() + 20
    while len(count()) != expected and time.monotonic() < until:
        time.sleep(0.05)
    return len(count()) == expected
