#!/bin/sh
# The first thing to run where there is an NVIDIA GPU: finds or makes a Python with what is needed, then measures all
# that there is to show, in less than ten minutes. Results go to $OUT, else ./gpu_results.
#
#   benchmarks/gpu_all.sh [arguments of python -m benchmarks.gpu, such as --rehearse or --only torch-batch,rate]
#   PYTHON=/path/to/python benchmarks/gpu_all.sh      with the packages of that one (PyTorch of its GPU, say)
#
# ONNX Runtime's builds for CPUs and for GPUs overwrite one another, so the one for GPUs has .venv-ort to itself. What
# cannot be installed, without a network say, is told; the parts that need it are skipped, and the others run.
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

NEEDED="numpy onnx onnxruntime sqlalchemy alembic typer rich scipy sklearn pydantic ai_edge_litert tflite fastapi"
WANTED="torch pytest pynvml"
ORT="$PWD/.venv-ort/bin/python"

lacks() {  # which of these modules an interpreter does not find
    python=$1 && shift
    "$python" -c 'import sys; from importlib.util import find_spec
print(*[name for name in sys.argv[1:] if find_spec(name) is None])' "$@" 2>/dev/null || echo "$@"
}

install() {  # packages into an interpreter; without a network what is there must do
    python=$1 && shift
    "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 "$@" ||
        echo "pip could not install $*" >&2
}

complete() {  # an interpreter, as far as that can be done
    [ -z "$(lacks "$1" $NEEDED)" ] || install "$1" -e .
    for name in $(lacks "$1" $WANTED); do
        case $name in pynvml) install "$1" nvidia-ml-py ;; *) install "$1" "$name" ;; esac
    done
}

has_cuda() {  # whether an interpreter's ONNX Runtime is the one for GPUs
    "$1" -c 'import sys, onnxruntime; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())' \
        2>/dev/null
}

REHEARSED=
case " $* " in
*" --rehearse "*) REHEARSED=yes ;;
*)
    "${PYTHON:-python3}" -c 'import sys; from agent.gpu import why_no_gpu
why = why_no_gpu()
sys.exit(why and f"{why}; --rehearse goes the same way on the processor")'
    ;;
esac

if [ -z "${PYTHON:-}" ]; then
    [ -x .venv/bin/python ] || python3 -m venv .venv
    PYTHON=.venv/bin/python
    complete "$PYTHON"
elif [ -n "$(lacks "$PYTHON" $NEEDED $WANTED)" ]; then
    echo "$PYTHON lacks: $(lacks "$PYTHON" $NEEDED $WANTED); they go into .venv-gpu, which sees its packages" >&2
    if [ -x .venv-gpu/bin/python ] || "$PYTHON" -m venv .venv-gpu; then
        "$PYTHON" -c 'import site; print(*site.getsitepackages(), sep="\n")' \
            >"$(echo .venv-gpu/lib/python*/site-packages)/outer.pth"
        PYTHON=.venv-gpu/bin/python
        complete "$PYTHON"
    fi
fi

if [ -n "$(lacks "$PYTHON" $NEEDED)" ]; then
    echo "$PYTHON must have: $(lacks "$PYTHON" $NEEDED); '$PYTHON -m pip install -e .' brings them" >&2
    exit 1
fi

if [ -z "$REHEARSED" ] && ! has_cuda "$PYTHON"; then
    [ -x "$ORT" ] || "$PYTHON" -m venv .venv-ort || echo "$PYTHON could not make .venv-ort" >&2
    has_cuda "$ORT" || install "$ORT" numpy nvidia-ml-py 'onnxruntime-gpu[cuda,cudnn]'
    if has_cuda "$ORT"; then
        [ -z "$(lacks "$ORT" tensorrt)" ] || install "$ORT" tensorrt
        set -- --agent-python "$ORT" "$@"
    fi
fi

exec "$PYTHON" -m benchmarks.gpu --out "${OUT:-gpu_results}" "$@"
