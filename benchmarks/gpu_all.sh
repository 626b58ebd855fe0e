#!/bin/sh
# The first thing to run where there is an NVIDIA GPU: finds or makes a Python with what is needed, then measures all
# that there is to show, in less than ten minutes. Results go to $OUT, else ./gpu_results.
#
#   benchmarks/gpu_all.sh [arguments of python -m benchmarks.gpu, such as --rehearse or --only contract,rate]
#   PYTHON=/path/to/python benchmarks/gpu_all.sh      with the packages of that one (PyTorch of its GPU, say)
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

NEEDED="numpy onnx onnxruntime sqlalchemy alembic typer rich scipy sklearn pydantic ai_edge_litert tflite fastapi"

lacks() {  # what of the needed modules an interpreter does not find
    "$1" -c 'import sys; from importlib.util import find_spec
print(*[name for name in sys.argv[1:] if find_spec(name) is None])' $NEEDED 2>/dev/null || echo "$NEEDED"
}

install() {  # extras into an interpreter; without a network what is there must do
    "$1" -m pip install --quiet --disable-pip-version-check -e ".[$2]" || echo "pip could not install [$2]" >&2
}

if [ -n "${PYTHON:-}" ]; then
    if [ -n "$(lacks "$PYTHON")" ]; then
        echo "$PYTHON lacks: $(lacks "$PYTHON"); they go into .venv-gpu, which sees its packages" >&2
        [ -x .venv-gpu/bin/python ] || "$PYTHON" -m venv .venv-gpu
        "$PYTHON" -c 'import site; print(*site.getsitepackages(), sep="\n")' >"$(echo .venv-gpu/lib/python*/site-packages)/outer.pth"
        PYTHON=.venv-gpu/bin/python
        [ -z "$(lacks "$PYTHON")" ] || install "$PYTHON" dev
    fi
elif [ -x .venv/bin/python ]; then
    PYTHON=.venv/bin/python
else
    python3 -m venv .venv
    PYTHON=.venv/bin/python
    install "$PYTHON" dev,train,gpu
fi

if [ -n "$(lacks "$PYTHON")" ]; then
    echo "$PYTHON must have: $(lacks "$PYTHON"); '$PYTHON -m pip install -e .[dev,train,gpu]' brings them" >&2
    exit 1
fi

for name in torch onnxruntime tensorrt pynvml; do
    "$PYTHON" -c "import $name; print('$name', getattr($name, '__version__', ''))" 2>/dev/null || echo "$name: not importable"
done
exec "$PYTHON" -m benchmarks.gpu --out "${OUT:-gpu_results}" "$@"
