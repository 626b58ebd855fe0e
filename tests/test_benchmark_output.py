"""What benchmark_model prints: every generation is read, and a damaged log never gives a wrong number."""

from __future__ import annotations

import random
import struct
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.benchmark_output import Timing, UnknownOutput, fallback_line, parse_output
from agent.engines.benchmark_profile import ProfileRow, parse_profile_csv, parse_profile_text
from agent.engines.benchmark_proto import MILLISECONDS, parse_result_proto

FIXTURES = Path(__file__).parent / "fixtures" / "benchmark_model"
LOGS = {path.stem: path.read_text() for path in FIXTURES.glob("*.txt")}
WHOLE = {
    "gen1_old": Timing(50, 66_767_600, 39_000, 66_699_000, 66_838_000, None, None, None, 12_516_000, "unknown", None),
    "gen2_mid": Timing(
        50, 119_375_000, 1_948_000, 113_737_000, 124_776_000, None, None, None, 870_557_000, "full", "GPU"
    ),
    "gen3_info": Timing(
        592, 1_687_920, 41_000, 1_600_000, 1_999_000, 1_620_000, 1_685_000, 1_760_000, 1_230_000, "unknown", None
    ),
    "gen3_allsame": Timing(50, 3_000, 0, 3_000, 3_000, 3_000, 3_000, 3_000, 1_230_000, "unknown", None),
    "gen4_litert": Timing(
        10, 7_430_200_000, 9_920_000, 7_411_500_000, 7_448_100_000, None, None, None, 23_744_730_000, "unknown", None
    ),
    "fallback_hexagon": Timing(
        50, 80_100_200, 500_000, 79_000_000, 82_000_000, None, None, None, 65_973_000, "none", "Hexagon"
    ),
}
GEN3 = LOGS["gen3_info"]
NAMES = sorted(WHOLE)
LITERT_AND_COUNTS = """INFO: STARTING!
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=2 first=3000 curr=2000 min=2000 max=3000 avg=2500 std=500 p5=2000 median=3000 p95=3000

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=60 first=1234 curr=1236 min=1231 max=1240 avg=1235.12 std=2 p5=1232 median=1235 p95=1239

INFO: [benchmark_litert_model.h:94] Model initialization: 1.23 ms
INFO: [benchmark_litert_model.h:95] Warmup (first):       3.00 ms
INFO: [benchmark_litert_model.h:97] Warmup (avg):         2.50 ms (2 runs)
INFO: [benchmark_litert_model.h:99] Inference (avg):      1.24 ms (60 runs)
INFO: [benchmark_litert_model.h:103] Inference (min):      1.23 ms
INFO: [benchmark_litert_model.h:105] Inference (max):      1.24 ms
INFO: [benchmark_litert_model.h:107] Inference (std):      0.00
"""


def same_or_refused(text: str, whole: Timing) -> None:
    """A damaged log is refused or says the same; without its head it may know less of the delegate, never more."""
    try:
        found = parse_output(text)
    except UnknownOutput:
        return
    if found.delegation == "unknown":
        found = replace(found, delegation=whole.delegation, delegate=whole.delegate)
    assert found == whole


@pytest.mark.parametrize("name", NAMES)
def test_every_generation_is_read(name: str) -> None:
    assert parse_output(LOGS[name]) == WHOLE[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_log_is_read_through_logcat_and_with_windows_line_ends(name: str) -> None:
    prefix = "05-31 10:31:13.022 21767 21767 I tflite  : "
    assert parse_output("\r\n".join(prefix + line for line in LOGS[name].splitlines())) == WHOLE[name]


def test_a_log_with_timings_but_no_count_line_is_refused_by_that_name() -> None:
    with pytest.raises(UnknownOutput, match="measured block") as refused:
        parse_output(LOGS["logcat_apk"])
    assert "Inference (avg): 1690.25" in str(refused.value)


def test_litert_with_count_lines_gives_the_finer_numbers_of_the_second_block() -> None:
    timing = parse_output(LITERT_AND_COUNTS)
    assert (timing.count, timing.avg_ns, timing.median_ns, timing.init_ns) == (60, 1_235_120, 1_235_000, 1_230_000)
    with pytest.raises(UnknownOutput, match="agree"):
        parse_output(LITERT_AND_COUNTS.replace("avg=1235.12", "avg=1233.12"))


@pytest.mark.parametrize(
    ("line", "delegation", "delegate"),
    [
        (
            "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
            "full",
            "GPU",
        ),
        (
            "Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the delegate w/ 3 "
            "delegate kernels.",
            "partial",
            "EXTERNAL",
        ),
        (
            "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.",
            "none",
            "NNAPI",
        ),
        ("TfLiteHexagonDelegate delegate: 125 nodes delegated out of 125 nodes with 1 partitions.", "full", "Hexagon"),
        ("TfLiteHexagonDelegate delegate: 1 nodes delegated out of 25 nodes with 2 partitions.", "partial", "Hexagon"),
        ("TfLiteHexagonDelegate delegate: 0 nodes delegated out of 125 nodes with 0 partitions.", "none", "Hexagon"),
        ("loaded libadsprpc.so", "unknown", None),
        ("Func remote_handle_control not available on this device (NULL).", "unknown", None),
    ],
)  # fmt: skip
def test_a_log_tells_how_much_the_delegate_took(line: str, delegation: str, delegate: str | None) -> None:
    timing = parse_output(GEN3.replace("INFO: Created", f"INFO: {line}\nINFO: Created"))
    assert (timing.delegation, timing.delegate) == (delegation, delegate)
    assert (fallback_line(line) is None) == (delegation in ("full", "unknown"))


@pytest.mark.parametrize(
    "line",
    [
        "hexagon_nn_config failed. Error: -1",
        "ERROR: Failed to apply Hexagon delegate.",
        "Failed to fetch Hexagon NN version",
        "ERROR: Benchmarking failed.",
        "ERROR: Disallowed CPU fallback detected.",
        "WARN: Unconsumed cmdline flags: --use_hexagon=true",
    ],
)
def test_a_failure_anywhere_in_the_log_outweighs_its_numbers(line: str) -> None:
    for text in (f"{line}\n{GEN3}", f"{GEN3}\n{line}\n"):
        with pytest.raises(UnknownOutput, match="no failure"):
            parse_output(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count=592 first=1701", "count=0 first=1701"),
        ("count=592 first=1701", "count=49 first=1701"),
        ("count=592 first=1701 curr=1690 min=1600 max=1999 avg=1687.92 std=41 p5=1620 median=1685 p95=1760", "count=0"),
        ("min=1600 max=1999", "min=1999 max=1600"),
        ("min=1600 max=1999", "min=1688 max=1999"),
        ("min=1600 max=1999", "min=1600 max=1687"),
        ("p5=1620 median=1685", "p5=1690 median=1685"),
        ("p95=1760", "p95=1660"),
        ("p95=1760", "p95=2000"),
        ("first=1701", "first=2001"),
        ("curr=1690", "curr=1590"),
        ("std=41", "std=410"),
        ("std=41", "std=nan"),
        ("Inference (avg): 1687.92", "Inference (avg): 1687.9"),
        ("Inference (avg): 1687.92", "Inference (avg): nan"),
        ("Warmup (avg): 1686.59", "Warmup (avg): 1687.59"),
        ("First inference: 4098", "First inference: 4099"),
        ("Init: 1230", "Init: 1240"),
    ],
)
def test_numbers_that_cannot_be_are_refused(old: str, new: str) -> None:
    assert old in GEN3
    with pytest.raises(UnknownOutput):
        parse_output(GEN3.replace(old, new))


def test_fewer_runs_than_asked_for_are_believed_where_the_time_was_over() -> None:
    slow = GEN3.replace("exceeding 150 seconds", "exceeding 0.05 seconds").replace("count=592", "count=30")
    assert parse_output(slow).count == 30


def test_blocks_that_could_be_each_other_are_refused() -> None:
    block = "count=305 first=4098 curr=1650 min=1600 max=4098 avg=1687.92 std=143 p5=1610 median=1670 p95=1800"
    warm = GEN3.replace("avg=1686.59", "avg=1687.92").replace("Warmup (avg): 1686.59", "Warmup (avg): 1687.92")
    assert parse_output(warm).count == 592
    lines = [block if line.startswith("count=592") else line for line in warm.replace("INFO: ", "").splitlines()]
    twin = "\n".join(lines).replace(block, block.replace("count=305", "count=400"), 1)
    with pytest.raises(UnknownOutput, match="certain"):
        parse_output(twin)


@given(st.sampled_from(NAMES), st.data())
def test_a_cut_log_is_refused_or_says_the_same(name: str, data: st.DataObject) -> None:
    text = LOGS[name]
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    for part in (text[:end], text[start:], text[start:end]):
        same_or_refused(part, WHOLE[name])


@given(st.sampled_from(NAMES), st.data())
def test_a_log_that_lacks_lines_is_refused_or_says_the_same(name: str, data: st.DataObject) -> None:
    lines = LOGS[name].splitlines()
    kept = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    same_or_refused("\n".join(line for line, keep in zip(lines, kept, strict=True) if keep), WHOLE[name])


@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_a_shuffled_log_is_refused_or_says_the_same(name: str, chance: random.Random) -> None:
    lines = LOGS[name].splitlines()
    chance.shuffle(lines)
    same_or_refused("\n".join(lines), WHOLE[name])


@given(st.sampled_from(NAMES), st.data())
def test_two_lines_that_changed_places_are_refused_or_harmless(name: str, data: st.DataObject) -> None:
    lines = LOGS[name].splitlines()
    one, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[one], lines[other] = lines[other], lines[one]
    same_or_refused("\n".join(lines), WHOLE[name])


@given(st.sampled_from(NAMES), st.data())
def test_doubled_lines_are_refused_or_harmless(name: str, data: st.DataObject) -> None:
    lines = LOGS[name].splitlines()
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(lines)), st.integers(0, len(lines)))))
    at = data.draw(st.integers(0, len(lines)))
    same_or_refused("\n".join([*lines[:at], *lines[start:end], *lines[at:]]), WHOLE[name])


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_two_interleaved_logs_are_refused(one: str, other: str, chance: random.Random) -> None:
    queues = [LOGS[one].splitlines(), LOGS[other].splitlines()]
    mixed = []
    while any(queues):
        queue = chance.choice([queue for queue in queues if queue])
        mixed.append(queue.pop(0))
    with pytest.raises(UnknownOutput):
        parse_output("\n".join(mixed))


@given(st.text(max_size=200))
def test_any_text_is_refused_loudly(text: str) -> None:
    with pytest.raises(UnknownOutput):
        parse_output(text)


FIRST = ProfileRow("CONV_2D", "[Relu6]:0", 4_269_000, 4_269_000, 1)
SECOND = ProfileRow("DEPTHWISE_CONV_2D", "[dw, with comma/Relu6]:1", 2_150_000, 2_150_000, 1)
TITLE = "============================== Run Order =============================="
LOADING = f"Profiling Info for Benchmark Initialization:\n{TITLE}\n"
RUNNING = f"Operator-wise Profiling Info for Regular Benchmark Runs:\n{TITLE}\n"
OLD = "node type, start, first, avg_ms, %, cdf%, mem KB, times called, name\n"
NEW = "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"


def rows(start: str) -> str:
    return (
        f"CONV_2D, {start}4.269, 4.269, 66.507%, 66.507%, 0.000, 1, [Relu6]:0\n"
        f"DEPTHWISE_CONV_2D, {start}2.150, 2.150, 33.493%, 100.000%, 0.000, 1, [dw\t with comma/Relu6]:1\n\n"
        "Number of nodes executed: 2\n"
    )


def test_the_text_profile_gives_its_nodes_in_the_order_they_ran() -> None:
    assert parse_profile_text(LOGS["op_profile_gen1"]) == (FIRST, SECOND)


@pytest.mark.parametrize(("header", "start"), [(OLD, "0.001, "), (NEW, "")])
def test_the_csv_profile_of_both_generations_gives_the_table_of_the_runs(header: str, start: str) -> None:
    loading = f"{LOADING}{header}AllocateTensors, {start}9.000, 9.000, 100%, 100%, 0.0, 1, AllocateTensors/0\n\n"
    assert parse_profile_csv(loading + RUNNING + header + rows(start)) == (FIRST, SECOND)


def test_what_a_delegate_tells_of_its_inside_is_left_aside() -> None:
    inside = f"Delegate internal: \n{TITLE}\n{NEW}DelegateOpInvoke, 1.0, 1.0, 100%, 100%, 0.0, 1, Delegate/a:0\n"
    assert parse_profile_csv(RUNNING + NEW + rows("") + inside) == (FIRST, SECOND)


@pytest.mark.parametrize(
    "text",
    ["", LOADING + NEW + rows(""), RUNNING, RUNNING + "a, b\n" + rows(""), RUNNING + NEW + rows("")[40:],
     RUNNING + NEW + rows("").replace("2.150", "x"), RUNNING + NEW + rows("").replace("executed: 2", "executed: 3")],
)  # fmt: skip
def test_another_profile_is_refused(text: str) -> None:
    with pytest.raises(UnknownOutput):
        parse_profile_csv(text)


def field(number: int, kind: int, body: bytes) -> bytes:
    return bytes([number << 3 | kind]) + body


def result_file(runs: int = 60, **changed: float) -> bytes:
    told = (1.23512, 1.231, 1.24, 0.002, 1.235, 1.232, 1.239, 12.5)
    ms = dict(zip(MILLISECONDS, told, strict=True))
    floats = b"".join(
        field(MILLISECONDS[name], 5, struct.pack("<f", value)) for name, value in {**ms, **changed}.items()
    )
    misc = field(1, 5, struct.pack("<f", 0.5)) + field(2, 0, bytes([runs])) + field(3, 0, b"\x82\x01")
    return field(1, 2, b"\x01a") + b"".join(
        field(number, 2, bytes([len(body)]) + body) for number, body in ((2, floats), (4, misc))
    )


def test_the_result_file_gives_the_same_as_the_log() -> None:
    timing = parse_result_proto(result_file())
    assert astuple(timing) == (
        60, 1_235_120, 2_000, 1_231_000, 1_240_000, 1_232_000, 1_235_000, 1_239_000, 12_500_000, "unknown", None
    )  # fmt: skip


@pytest.mark.parametrize(
    "data", [b"", result_file(runs=0), result_file(min=1.3), result_file() * 2, b"\x0b", b"\xff" * 12]
)
def test_another_result_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownOutput):
        parse_result_proto(data)


@given(st.integers(0, len(result_file()) - 1))
def test_a_cut_result_file_is_refused(end: int) -> None:
    with pytest.raises(UnknownOutput):
        parse_result_proto(result_file()[:end])


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_loudly(data: bytes) -> None:
    with pytest.raises(UnknownOutput):
        parse_result_proto(data)
