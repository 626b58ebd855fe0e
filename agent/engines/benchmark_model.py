"""TFLite's own ``benchmark_model`` as a child process: the way to DSP, GPU and NPU, whose libraries it can load.

It tells no single samples, only a summary of its runs, so this engine has ``summarise`` beside what others have. The
binary is named by the environment, which the host sets when it starts the agent:

    CHAMNET_BENCHMARK_BINARY    its path on the device
    CHAMNET_PREFIX              JSON list of words that run a command there, such as ["adb", "-s", "SERIAL", "shell"];
                                absent where the agent itself runs on the device

Options: ``threads``, ``cpus`` (a list: pinned with taskset), ``flags`` (more of its flags, such as
``--use_hexagon=true``), ``environment`` (variables for it), ``confirm`` (refuse numbers unless the log confirms that a
delegate took the whole model), ``num_runs``, ``min_secs``, ``max_secs``, ``warmup_min_secs``, ``timeout_s``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict
from typing import Any, Dict, List, NamedTuple, Optional

from agent.engines import EngineUnavailable, FellBack
from agent.engines.benchmark_output import Timing, UnknownOutput, fallback_line, parse_output
from agent.engines.launch import Ended, TooLong, run_command
from agent.phone import PREFIX

LIVE = 1
BINARY = "CHAMNET_BENCHMARK_BINARY"
VERSION_DIGITS = 12
SUMMARY = ("count", "avg_ns", "std_ns", "min_ns", "max_ns", "p5_ns", "median_ns", "p95_ns")

LIMITS = ("num_runs", "min_secs", "max_secs", "warmup_min_secs")
USUAL_MAX_S = 150.0
"""Its own limit for the warm-up and for the measured runs each."""

SPARE_S = 60.0
ASK_LIMIT_S = 30.0
CPU_DELEGATE = "XNNPACK"
_SHA256 = re.compile(r"\\?([0-9a-f]{64})\b")
_CHUNK_BYTES = 1 << 20


class Place(NamedTuple):
    """Where the binary is, and the words that run a command there."""

    binary: str
    prefix: List[str]


def version() -> str:
    """``sha256-`` and the first digits of the binary as it lies on the device."""
    place = _place()
    digest = _digest_there(place) if place.prefix else _digest_here(place.binary)
    return "sha256-{}".format(digest[:VERSION_DIGITS])


def live(options: Dict[str, Any]) -> int:
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> Any:
    raise EngineUnavailable("benchmark_model must be asked to measure, but got a single run; litert can do that")


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    """It runs operators as they are written: the copy is the optimised model."""
    ended = run_command(_place().prefix, ["cp", path, into_path], {}, ASK_LIMIT_S)
    if ended.status:
        raise OSError("{} must be copied to {}, but got {}".format(path, into_path, ended.text.strip()))


def summarise(path: str, options: Dict[str, Any]) -> Dict[str, float]:
    """The summary of one benchmark of a model, in ns; what the log does not tell is left out.

    Raises:
        FellBack: ``confirm`` is set and the log does not confirm that a delegate took the whole model.
        UnknownOutput: it ran, but its log cannot be trusted; the whole log is kept in a file that the message names.
        TooLong, RuntimeError: it hung, or ended with another status than 0; the log is kept as well.
        EngineUnavailable: it cannot be started, or the device was lost.
    """
    place = _place()
    try:
        words = command(place.binary, path, options)
        ended = run_command(place.prefix, words, _environment(options), _limit_s(options))
    except TooLong as late:
        raise TooLong("{}; its output is in {}".format(late, _keep(late.text, path, place)), late.text) from None
    timing = _timing(ended, path, place, bool(options.get("confirm")))
    told = asdict(timing)
    return {name: told[name] for name in SUMMARY if told[name] is not None}


def command(binary: str, path: str, options: Dict[str, Any]) -> List[str]:
    """The words that benchmark a model."""
    words = [binary, "--graph={}".format(path), "--num_threads={}".format(int(options.get("threads", 1)))]
    words += ["--{}={}".format(name, _number(name, options[name])) for name in LIMITS if name in options]
    return [*_pinning(options.get("cpus") or []), *words, *_flags(options.get("flags") or [])]


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("{} must be a number, but got {!r}".format(name, value))
    return value


def _pinning(cpus: List[int]) -> List[str]:
    """toybox's taskset wants hexadecimal digits without 0x; others take them as well."""
    if not all(isinstance(cpu, int) and cpu >= 0 for cpu in cpus):
        raise ValueError("cpus must be a list of processor numbers, but got {!r}".format(cpus))
    return ["taskset", "{:x}".format(sum(1 << cpu for cpu in set(cpus)))] if cpus else []


def _flags(flags: List[str]) -> List[str]:
    for flag in flags:
        if not isinstance(flag, str) or not flag.startswith("--"):
            raise ValueError("flags must be a list of words such as --use_gpu=true, but got {!r}".format(flag))
    return list(flags)


def _environment(options: Dict[str, Any]) -> Dict[str, str]:
    return {str(name): str(value) for name, value in (options.get("environment") or {}).items()}


def _limit_s(options: Dict[str, Any]) -> float:
    return float(options.get("timeout_s") or 2 * float(options.get("max_secs", USUAL_MAX_S)) + SPARE_S)


def _timing(ended: Ended, path: str, place: Place, confirm: bool) -> Timing:
    fallback = fallback_line(ended.text) if confirm else None
    if fallback is not None:
        raise FellBack("fell back to the CPU: {!r}; {}".format(fallback[:120], _kept(ended, path, place)))
    if ended.status:
        raise RuntimeError(
            "benchmark_model must end with status 0, but got {}{}; {}".format(
                ended.status, _last_words(ended.text), _kept(ended, path, place)
            )
        )
    try:
        timing = parse_output(ended.text)
    except UnknownOutput as reason:
        first, _, tail = str(reason).partition("\n")
        raise UnknownOutput("{}; {}\n{}".format(first[:200], _kept(ended, path, place), tail)) from None
    if confirm and (timing.delegation != "full" or timing.delegate == CPU_DELEGATE):
        raise FellBack(
            "fell back to the CPU, or does not tell: no line confirms that a delegate took the whole model; {}".format(
                _kept(ended, path, place)
            )
        )
    return timing


def _kept(ended: Ended, path: str, place: Place) -> str:
    return "the whole output is in {}".format(_keep(ended.text, path, place))


def _keep(text: str, path: str, place: Place) -> str:
    """Writes a log beside the model, or into a temporary file where that is another machine or forbidden."""
    if not place.prefix:
        beside = path + ".log"
        try:
            with open(beside, "w", encoding="utf-8") as file:
                file.write(text)
            return beside
        except OSError:
            pass
    stem = os.path.basename(path)[:40]
    handle, kept = tempfile.mkstemp(prefix="chamnet-{}-".format(stem), suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(text)
    return kept


def _last_words(text: str) -> str:
    lines = text.strip().splitlines()
    return " ({})".format(lines[-1][:100]) if lines else ""


def _place() -> Place:
    binary = os.environ.get(BINARY)
    if not binary:
        raise EngineUnavailable(
            "{} must name the binary on the device, but is not set; give --benchmark-binary".format(BINARY)
        )
    return Place(binary, _prefix(os.environ.get(PREFIX)))


def _prefix(text: Optional[str]) -> List[str]:
    if not text:
        return []
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise EngineUnavailable(
            '{} must be a JSON list such as ["adb", "shell"], but got {!r}'.format(PREFIX, text[:120])
        )
    return words


def _digest_here(binary: str) -> str:
    if not os.path.isfile(binary) or not os.access(binary, os.X_OK):
        raise EngineUnavailable(_absent(binary))
    digest = hashlib.sha256()
    try:
        with open(binary, "rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError as error:
        raise EngineUnavailable("{}: {}".format(_absent(binary), error)) from None
    return digest.hexdigest()


def _digest_there(place: Place) -> str:
    try:
        if run_command(place.prefix, ["test", "-x", place.binary], {}, ASK_LIMIT_S).status:
            raise EngineUnavailable(_absent(place.binary))
        ended = run_command(place.prefix, ["sha256sum", place.binary], {}, ASK_LIMIT_S)
    except TooLong as late:
        raise EngineUnavailable("the device must answer, but {}".format(late)) from None
    match = next((match for match in map(_SHA256.match, ended.text.splitlines()) if match), None)
    if ended.status or match is None:
        raise EngineUnavailable("sha256sum must tell the digest of the binary, but got {!r}".format(ended.text[-200:]))
    return match[1]


def _absent(binary: str) -> str:
    return "{!r} must be an executable file on the device, but is not; push it and chmod it".format(binary)
