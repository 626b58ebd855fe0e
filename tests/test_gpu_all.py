"""The script for a GPU: which Python it takes, what it installs where, and what it does without a network or a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
STUB = """#!/bin/sh
# Stands for Pythons: this one and those of environments that it makes; what they have is what the folder says.
echo "$0 $*" >>"$FOLDER/log"
case "$*" in
*why_no_gpu*) exit 0 ;;
*find_spec*) for name in torch pytest pynvml tensorrt; do
    case "$*" in *"$name"*) [ -e "$FOLDER/$name" ] || echo "$name" ;; esac; done ;;
*CUDAExecutionProvider*) case $0 in *venv-ort*) [ -e "$FOLDER/onnxruntime-gpu" ] ;; *) exit 1 ;; esac ;;
"-m venv"*) mkdir -p "$3/bin" "$3/lib/python3/site-packages" && cp "$0" "$3/bin/python" ;;
*site-packages* | *getsitepackages*) echo /outer ;;
*"-m pip"*) [ -e "$FOLDER/network" ] || exit 1
    for word in "$@"; do case $word in onnxruntime-gpu*) : >"$FOLDER/onnxruntime-gpu" ;; esac
        : >"$FOLDER/$(echo "$word" | tr -d /)"; done; : >"$FOLDER/pynvml" ;;
esac
"""


def call_script(folder: Path, *present: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script in a folder of its own, with Pythons that only tell what they were asked; its end, and their log."""
    script, python = folder / "benchmarks" / "gpu_all.sh", folder / "stub"
    script.parent.mkdir()
    script.write_bytes((PROJECT / "benchmarks" / "gpu_all.sh").read_bytes())
    python.write_text(STUB)
    python.chmod(0o755)
    for name in present:
        (folder / name).touch()
    environment = {**os.environ, "PYTHON": str(python), "FOLDER": str(folder), "OUT": "out"}
    ended = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True)
    return ended, (folder / "log").read_text().splitlines()


def test_without_a_network_what_is_missing_is_told_and_the_rest_runs(tmp_path: Path) -> None:
    ended, log = call_script(tmp_path, "torch")
    assert ended.returncode == 0
    assert "pip could not install pytest" in ended.stderr
    assert "pip could not install numpy nvidia-ml-py onnxruntime-gpu[cuda,cudnn]" in ended.stderr
    assert log[-1] == ".venv-gpu/bin/python -m benchmarks.gpu --out out"


def test_onnxruntime_for_gpus_gets_an_environment_of_its_own(tmp_path: Path) -> None:
    ended, log = call_script(tmp_path, "torch", "pytest", "pynvml", "network")
    assert ended.returncode == 0
    installed = [line for line in log if "-m pip" in line]
    assert all(line.startswith(f"{tmp_path}/.venv-ort/bin/python ") for line in installed)
    assert {line.split()[-1] for line in installed} == {"onnxruntime-gpu[cuda,cudnn]", "tensorrt"}
    ort = f"{tmp_path}/.venv-ort/bin/python"
    assert log[-1] == f"{tmp_path}/stub -m benchmarks.gpu --out out --agent-python {ort}"


def test_without_a_gpu_the_script_ends_with_one_line_before_it_makes_anything(tmp_path: Path) -> None:
    script = tmp_path / "benchmarks" / "gpu_all.sh"
    script.parent.mkdir()
    script.write_bytes((PROJECT / "benchmarks" / "gpu_all.sh").read_bytes())
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("no NVIDIA GPU can be used: ")
    assert "--rehearse" in line
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks"]
