"""Networks by name: NETWORKS, and what was published about them.

    chamnet-a ... chamnet-f           mobilenet-v1|v2|v3-large|v3-small [-WIDTH [-RESOLUTION]]
    mnasnet-a1                        efficientnet-lite0 ... lite4
    resnet-18|50|101|152
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ops_catalog.build import with_dtype
from ops_catalog.networks import chamnet, efficient, mobilenet, resnet
from ops_catalog.spec import Graph, SpecError

NETWORKS: dict[str, Callable[..., Graph]] = {
    **{f"chamnet-{letter}": lambda name, letter=letter: chamnet.build_chamnet(name, letter) for letter in "abcdef"},
    "mobilenet-v1": mobilenet.build_v1,
    "mobilenet-v2": mobilenet.build_v2,
    "mobilenet-v3-large": lambda name, *scale: mobilenet.build_v3(name, *scale, size="large"),
    "mobilenet-v3-small": lambda name, *scale: mobilenet.build_v3(name, *scale, size="small"),
    "mnasnet-a1": efficient.build_mnasnet,
    **{f"efficientnet-lite{v}": lambda name, v=v: efficient.build_lite(name, v) for v in efficient.LITE_SCALES},
    **{f"resnet-{layers}": lambda name, layers=layers: resnet.build_resnet(name, layers) for layers in resnet.DEPTHS},
}
SCALED = ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small")


@dataclass(frozen=True, slots=True)
class Published:
    """What was published about a network; None where it was not.

    Attributes:
        deviation: why ours differs from it, "" where it does not beyond rounding.
    """

    top1_percent: float | None
    macs_m: float | None
    params_m: float | None
    source: str
    deviation: str


def build_network(name: str, dtype: str = "float32") -> Graph:
    """A network by its name.

    Raises:
        SpecError: no such name.
    """
    base, scale = _split(name)
    return with_dtype(NETWORKS[base](name, *scale), dtype)


def published(name: str) -> Published | None:
    """What was published about a network, None if nothing is known here."""
    return _published().get(name)


def _split(name: str) -> tuple[str, tuple[float | int, ...]]:
    for base in SCALED:
        if name.startswith(f"{base}-"):
            width, _, resolution = name.removeprefix(f"{base}-").partition("-")
            try:
                return base, (float(width), int(resolution)) if resolution else (float(width),)
            except ValueError:
                break
    if name not in NETWORKS:
        listed = ", ".join(NETWORKS)
        raise SpecError(f"a network must be one of {listed} (MobileNets also as NAME-WIDTH-RESOLUTION), but got {name!r}")
    return name, ()


@cache
def _published() -> dict[str, Published]:
    with files("ops_catalog.networks").joinpath("published.csv").open() as lines:
        return {row["name"]: _row(row) for row in csv.DictReader(lines)}


def _row(row: dict[str, str]) -> Published:
    top1, macs, params = (float(row[name]) if row[name] else None for name in ("top1_percent", "macs_m", "params_m"))
    return Published(top1, macs, params, row["source"], row["deviation"])
