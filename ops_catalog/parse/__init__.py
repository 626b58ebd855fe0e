"""Model file -> Graph. PARSERS: file format -> module with ``parse(data, shapes, name) -> Parsed``.

    parsed = parse_model(Path("model.onnx"), {"input": (1, 3, 224, 224)})

The Graph is as our networks are written: batch norms folded, residuals and activations part of what they follow, in
``normal`` form. What is not understood is listed in ``parsed.unknown``, never dropped. Only shapes are read, no
weights, and no file but the given one. Tensors keep their names; images are N x C x H x W as everywhere here, also
those of a TFLite file. What a file does not tell cannot come back: the float16 of a TFLite file without weights, and a
batch norm of ours that TFLite or int8 ONNX writes as a depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from ops_catalog.parse.result import MALFORMED, MAX_FILE_BYTES, Parsed, ParseError, UnknownNode, one_line
from ops_catalog.spec import SpecError

PARSERS = {"onnx": "ops_catalog.parse.onnx", "tflite": "ops_catalog.parse.tflite"}

__all__ = ["PARSERS", "ParseError", "Parsed", "UnknownNode", "format_of", "parse_model"]


def parse_model(
    source: Path | str | bytes, shapes: Mapping[str, tuple[int, ...]] | None = None, name: str = ""
) -> Parsed:
    """The network of a model file.

    Args:
        shapes: shapes of inputs, as they are stored in the file: for those that the file leaves open. In an ONNX model
            also of what unknown nodes make, so that what follows them can be priced.
        name: of the Graph; by default the file's.

    Raises:
        ParseError: no model file, a shape that must be given, or nothing in it that is understood.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    called = name or ("" if isinstance(source, bytes) else Path(source).stem)
    parser = import_module(PARSERS[format_of(data)])
    try:
        parsed = parser.parse(data, dict(shapes or {}), called)
    except ParseError:
        raise
    except MALFORMED as error:
        kind = f"{type(error).__module__}.{type(error).__name__}".removeprefix("builtins.")
        what = str(error) if isinstance(error, SpecError) else f"damaged bytes ({kind})"
        raise ParseError(f"a model's parts must fit together, but got {one_line(what)}; export it again") from None
    assert isinstance(parsed, Parsed)
    return parsed


def format_of(data: bytes) -> str:
    """The format that bytes are in, told by their beginning. Raises ParseError where it is none of PARSERS."""
    if data[4:8] == b"TFL3":
        return "tflite"
    if data[:1] and data[0] & 7 in (0, 2) and 0 < data[0] >> 3 <= 25:
        return "onnx"
    raise ParseError("a model must be a whole ONNX or TFLite file, but got neither; export it again")


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ParseError(f"a model must be a file, but got {one_line(path)}; check the path")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ParseError(
                f"a model file must be at most {MAX_FILE_BYTES} bytes, but got {size}; store its weights apart"
            )
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ParseError(f"a model file must be readable, but got {one_line(error)}; check the path") from None
