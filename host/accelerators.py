"""What a DSP, GPU or NPU needs, and what it can run: the flags of ``benchmark_model``, and reasons against.

ACCELERATORS has one line per accelerator. The vendor libraries are the user's to fetch (``docs/dsp.md``); here are only
their names. An operator that nothing speaks against may still fall back: everything but the CPU is therefore measured
with ``confirm``, so that a number that the CPU made is refused. Which operators are refused beforehand says
``host.delegate_rules``. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from host.delegate_rules import hexagon_objection, qnn_objection, rank_objection
from host.errors import UsageError
from ops_catalog.ops import OPS
from ops_catalog.spec import OpSpec

HEXAGON_SKELS = {
    "v60": "libhexagon_nn_skel.so",
    "v62": "libhexagon_nn_skel.so",
    "v65": "libhexagon_nn_skel_v65.so",
    "v66": "libhexagon_nn_skel_v66.so",
}
"""Hexagon version -> the part that runs on the DSP: Snapdragon 820, 835, 845, 855 and their like."""

HTP_VERSIONS = ("v68", "v69", "v73", "v75", "v79", "v81")
"""The Hexagon versions that QNN has HTP libraries for: from Snapdragon 888 on."""

FULL = "--require_full_delegation=true"
SYSTEM_DSP_FOLDERS = "/system/lib/rfsa/adsp;/system/vendor/lib/rfsa/adsp;/dsp"
QNN_OPTIONS = (
    "backend_type:htp;library_path:{libraries}/libQnnHtp.so;skel_library_dir:{libraries};"
    "htp_precision:0;htp_performance_mode:2"
)
"""Integer arithmetic; burst clocks."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator as ``benchmark_model`` is asked for it.

    Attributes:
        flags: ``{libraries}`` stands for the folder on the device that holds the vendor's libraries.
        environment: (variable, value) of the process, alike.
        files: what the user must supply for any chip; ``needed_files`` adds what depends on the chip.
        dtypes: element types of the models it takes.
        dtype_flags: (element type, flag) where they differ by it.
        confirm: the log must confirm that the delegate took the whole model.
        objects: the reason why it cannot run an operator; None where nothing is known against it.
    """

    flags: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    files: tuple[str, ...]
    dtypes: tuple[str, ...]
    objects: Callable[[OpSpec], str | None]
    dtype_flags: tuple[tuple[str, str], ...] = ()
    confirm: bool = True


ACCELERATORS = {
    "cpu": Accelerator((), (), (), ("float32", "float16", "int8"), lambda op: None, confirm=False),
    "hexagon": Accelerator(
        ("--use_hexagon=true", "--hexagon_lib_path={libraries}", FULL),
        (("LD_LIBRARY_PATH", "{libraries}"), ("ADSP_LIBRARY_PATH", "{libraries};" + SYSTEM_DSP_FOLDERS)),
        ("libhexagon_interface.so",),
        ("int8",),
        hexagon_objection,
    ),
    "qnn-htp": Accelerator(
        (
            "--external_delegate_path={libraries}/libQnnTFLiteDelegate.so",
            f"--external_delegate_options={QNN_OPTIONS}",
            FULL,
        ),
        (("LD_LIBRARY_PATH", "{libraries}"), ("ADSP_LIBRARY_PATH", "{libraries}")),
        ("libQnnTFLiteDelegate.so", "libQnnHtp.so", "libQnnHtpPrepare.so", "libQnnSystem.so"),
        ("int8",),
        qnn_objection,
    ),
    "gpu": Accelerator(
        ("--use_gpu=true", FULL),
        (),
        (),
        ("float32", "float16", "int8"),
        rank_objection,
        dtype_flags=(
            ("float32", "--gpu_precision_loss_allowed=false"),
            ("float16", "--gpu_precision_loss_allowed=true"),
        ),
    ),
    "nnapi": Accelerator(
        ("--use_nnapi=true", "--disable_nnapi_cpu=true", FULL), (), (), ("float32", "int8"), rank_objection
    ),
}


def accelerator(name: str) -> Accelerator:
    """Raises UsageError for a name that is not in ACCELERATORS."""
    if name not in ACCELERATORS:
        raise UsageError(f"an accelerator must be one of {', '.join(ACCELERATORS)}, but got {name!r}")
    return ACCELERATORS[name]


def benchmark_flags(name: str, dtype: str, libraries: str = "") -> list[str]:
    """The flags for a model of that element type, with the vendor's libraries in that folder on the device."""
    chosen = accelerator(name)
    flags = [*chosen.flags, *(flag for kind, flag in chosen.dtype_flags if kind == dtype)]
    return [flag.replace("{libraries}", libraries) for flag in flags]


def benchmark_environment(name: str, libraries: str = "") -> dict[str, str]:
    """The variables of the process that measures."""
    return {variable: value.replace("{libraries}", libraries) for variable, value in accelerator(name).environment}


def needed_files(name: str, hexagon_version: str | None) -> tuple[str, ...]:
    """The libraries that the user must supply for a chip that ``supports`` says nothing against."""
    files = accelerator(name).files
    if name == "hexagon" and hexagon_version in HEXAGON_SKELS:
        return (*files, HEXAGON_SKELS[hexagon_version])
    if name == "qnn-htp" and hexagon_version in HTP_VERSIONS:
        stem = f"libQnnHtp{hexagon_version.upper()}"
        return (*files, f"{stem}Stub.so", f"{stem}Skel.so")
    return files


def missing_files(name: str, hexagon_version: str | None, there: Iterable[str]) -> tuple[str, ...]:
    """Those of them that are not among the names of the files that are there."""
    known = set(there)
    return tuple(file for file in needed_files(name, hexagon_version) if file not in known)


def supports(name: str, hexagon_version: str | None) -> str | None:
    """Why a chip with that Hexagon (``v62``; None where it has none or it is unknown) cannot be used so; else None."""
    accelerator(name)
    if name not in ("hexagon", "qnn-htp"):
        return None
    known = tuple(HEXAGON_SKELS) if name == "hexagon" else HTP_VERSIONS
    if hexagon_version in known:
        return None
    has = f"the chip has {hexagon_version or 'none that is known'}"
    return f"{name} must have a Hexagon of {', '.join(known)}, but {has}; {_instead(name, hexagon_version)}"


def objection(name: str, op: OpSpec) -> str | None:
    """Why an operator cannot run there; None where nothing speaks against it."""
    chosen = accelerator(name)
    if op.type not in OPS:
        return f"{op.type} is no known operator; known are {', '.join(sorted(OPS))}"
    if op.dtype not in chosen.dtypes:
        return f"{name} takes {' and '.join(chosen.dtypes)} only, not {op.dtype}"
    return chosen.objects(op)


def runnable(name: str, operators: Iterable[OpSpec]) -> tuple[tuple[OpSpec, ...], dict[str, str]]:
    """The operators that nothing speaks against, in their order, and key -> reason of the others."""
    kept, refused = [], {}
    for op in operators:
        reason = objection(name, op)
        if reason is None:
            kept.append(op)
        else:
            refused[op.key] = reason
    return tuple(kept), refused


def _instead(name: str, hexagon_version: str | None) -> str:
    if hexagon_version in HTP_VERSIONS:
        return "its delegate ends at v66 (tensorflow#55364): use qnn-htp"
    if hexagon_version in HEXAGON_SKELS:
        return "there is no QNN for chips before Snapdragon 888, such as 835 and 845: use hexagon"
    return "use nnapi, gpu or cpu"
