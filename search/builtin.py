"""Accuracies that ship with the program, as samples of their spaces.

mbconv: 2000 networks of Accel-NASBench on ImageNet, trained with a shortened recipe (``data/NOTICE``).
chamnet-mobile: the published networks inside it, MobileNetV2's grid of widths and resolutions and ChamNet-A...F: few,
and on a thin manifold, which a predictor's uncertainty has to show.

References:
    Ahmad et al., Accel-NASBench, DAC 2024; Sandler et al., CVPR 2018; Dai et al., CVPR 2019.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from lut_db.samples import AccuracySample
from ops_catalog.networks import published, published_names
from ops_catalog.networks.blocks import round_channels
from ops_catalog.networks.chamnet import RELEASED, MobileStages
from ops_catalog.networks.mobilenet import V2_STAGES
from ops_catalog.spec import SpecError
from search.spaces import chamnet_mobile
from search.spaces.space import format_genome

IMAGENET = "imagenet"
SHORTENED = "accel-nasbench shortened"


@cache
def builtin_samples(space: str) -> tuple[AccuracySample, ...]:
    """Samples of a space that are known without any training here; none for most."""
    return tuple(BUILTIN[space]()) if space in BUILTIN else ()


def _accel_nasbench() -> Iterator[AccuracySample]:
    with files("search").joinpath("data/mbconv_imagenet.csv").open() as lines:
        for row in csv.DictReader(lines):
            accuracy = float(row.pop("top1"))
            genome = format_genome(tuple(map(int, row.values())))
            yield AccuracySample("mbconv", genome, IMAGENET, SHORTENED, accuracy, source="Accel-NASBench")


def _published_mobile() -> Iterator[AccuracySample]:
    for name in published_names():
        try:
            genome = chamnet_mobile.encode(_stages(name))
        except (KeyError, SpecError):
            continue
        facts = published(name)
        if facts and facts.top1_percent is not None:
            yield AccuracySample(
                "chamnet-mobile", format_genome(genome), IMAGENET, facts.recipe, facts.top1_percent, source=facts.source
            )


def _stages(name: str) -> MobileStages:
    """The stages of ChamNet or MobileNetV2. Raises KeyError for other networks."""
    family, _, rest = name.partition("-")
    if family == "chamnet":
        return RELEASED[rest]
    if not name.startswith("mobilenet-v2"):
        raise KeyError(name)
    _, _, *scale = name.split("-")
    width, resolution = (float(scale[0]), int(scale[1])) if scale else (1.0, 224)
    stages = tuple((t if t > 1 else 0, round_channels(c * width), n, s) for t, c, n, s in V2_STAGES)
    return MobileStages(resolution, round_channels(32 * width), stages, round_channels(1280 * max(width, 1.0)))


BUILTIN = {"mbconv": _accel_nasbench, "chamnet-mobile": _published_mobile}
