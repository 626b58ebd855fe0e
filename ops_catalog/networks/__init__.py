"""Networks by name: NETWORKS, and what was published about them.

chamnet-a ... chamnet-f           mobilenet-v1|v2|v3-large|v3-small [-WIDTH [-RESOLUTION]]
mnasnet-a1                        efficientnet-lite0 ... lite4
resnet-18|50|101|152

Each also as NAME@bBATCH, such as resnet-50@b32: the same for so many images at once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from ops_catalog.build import batch_suffix, split_batch, with_batch, with_dtype
from ops_catalog.networks import chamnet, efficient, mobilenet, resnet
from ops_catalog.spec import Graph, SpecError

NETWORKS: dict[str, Callable[..., Graph]] = {
    **{f"chamnet-{letter}": lambda name, letter=letter: chamnet.build_chamnet(name, letter) for letter in "abcdef"},
    "mobilenet-v1": mobilenet.build_v1,
    "mobilenet-v2": mobilenet.build_v2,
    "mobilenet-v3-large": lambda name, width, resolution: mobilenet.build_v3(name, width, resolution, "large"),
    "mobilenet-v3-small": lambda name, width, resolution: mobilenet.build_v3(name, width, resolution, "small"),
    "mnasnet-a1": efficient.build_mnasnet,
    **{f"efficientnet-lite{v}": lambda name, v=v: efficient.build_lite(name, v) for v in efficient.LITE_SCALES},
    **{f"resnet-{layers}": lambda name, layers=layers: resnet.build_resnet(name, layers) for layers in resnet.DEPTHS},
}
SCALED = ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small")
PLAIN = (1.0, 224)
"""Width and resolution of a scaled network that names none."""

_SCALED_NAME = re.compile(rf"(?P<base>{'|'.join(SCALED)})-(?P<width>\d+(\.\d+)?)(-(?P<resolution>\d+))?")


@dataclass(frozen=True, slots=True)
class Published:
    """What was published about a network; None where it was not.

    Attributes:
        top1_percent: accuracy on ImageNet in float32.
        batch_norm_values: what ``params_m`` counts per channel of a convolution for its batch norm: 2 (scale and
            offset), 0, or 1 as here, where it is folded into a bias.
        recipe: how it was trained; accuracies of different recipes do not compare.
        deviation: why our MACs or parameters differ, "" where they agree within one unit of the last digit.
    """

    top1_percent: float | None
    macs_m: float | None
    params_m: float | None
    batch_norm_values: int
    recipe: str
    source: str
    deviation: str


def build_network(
    name: str, dtype: str = "float32", resolution: int | None = None, width: float | None = None
) -> Graph:
    """A network by its name; ``resolution`` (pixels) and ``width`` (a factor of channels) override those in it.

    Different spellings of a name build a Graph of one name: ``mobilenet-v2-1.0-224@b1`` is ``mobilenet-v2``.

    Raises:
        SpecError: no such name, or a width or resolution for a network that has one only.
    """
    plain, batch = split_batch(name)
    graph = with_dtype(_build(plain, resolution, width), dtype)
    return graph if batch == 1 else replace(with_batch(graph, batch), name=graph.name + batch_suffix(batch))


def _build(name: str, resolution: int | None, width: float | None) -> Graph:
    base, named_width, named_resolution = _split(name)
    width = named_width if width is None else width
    resolution = named_resolution if resolution is None else resolution
    called = _name(base, width, resolution)
    if base in SCALED and 0 < width <= 16 and 0 < resolution <= 4096:
        return NETWORKS[base](called, width, resolution)
    if (width, resolution) == PLAIN:
        return NETWORKS[base](called)
    raise SpecError(
        f"width must be above 0 up to 16, resolution 1 to 4096, of one of {', '.join(SCALED)}, but got {called!r}"
    )


def published(name: str) -> Published | None:
    """What was published about a network, of one image whatever its batch; None if nothing is known here."""
    try:
        return _published().get(_name(*_split(split_batch(name)[0])))
    except SpecError:
        return None


def published_names() -> tuple[str, ...]:
    """Names of the networks that something was published about."""
    return tuple(_published())


def _split(name: str) -> tuple[str, float, int]:
    """Base, width and resolution."""
    match = _SCALED_NAME.fullmatch(name)
    if match:
        return match["base"], float(match["width"]), int(match["resolution"] or PLAIN[1])
    if name in NETWORKS:
        return name, *PLAIN
    listed = f"{', '.join(NETWORKS)} (MobileNets also as NAME-WIDTH-RESOLUTION, each also as NAME@bBATCH)"
    raise SpecError(f"a network must be one of {listed}, but got {name!r}")


def _name(base: str, width: float, resolution: int) -> str:
    return base if (width, resolution) == PLAIN else f"{base}-{width:g}-{resolution}"


@cache
def _published() -> dict[str, Published]:
    with files("ops_catalog.networks").joinpath("published.csv").open() as lines:
        return {row["name"]: _row(row) for row in csv.DictReader(lines)}


def _row(row: dict[str, str]) -> Published:
    top1, macs, params = (float(row[name]) if row[name] else None for name in ("top1_percent", "macs_m", "params_m"))
    return Published(top1, macs, params, int(row["batch_norm_values"]), row["recipe"], row["source"], row["deviation"])
