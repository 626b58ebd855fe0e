"""A search space described in a TOML file. Values may be lists of choices; those with several become genes.

What decides the network's frame (name, classes, the common activation, blocks, strides) is one value.

name = "my-space"
resolution = [160, 192, 224]
classes = 1000                      # 1000 where it is left out
activation = "relu6"                # of the stem, and of every stage that names none

[stem]
channels = [16, 24]
kernel = 3                          # 3
stride = 2                          # 2

[[stage]]
block = "inverted_residual"         # or bottleneck, basic_residual, conv
channels = [16, 24, 32]
stride = 2                          # of the first block; 1
depth = [1, 2, 3]                   # number of blocks; 1
kernel = [3, 5]                     # 3; of inverted_residual and conv
expansion = [3, 6]                  # of inverted_residual; 1 leaves its first convolution out; 6
squeeze_excite = [0, 4]             # of inverted_residual: channels by this divisor, 0 for none; 0
middle = [16, 32]                   # of bottleneck: its width inside
activation = ["relu", "hard_swish"] # of inverted_residual and conv; numbered in the genome: 0, 1

[head]                              # may be left out
channels = 1280                     # a 1x1 convolution before the classifier
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ops_catalog.build import Network
from ops_catalog.networks.blocks import basic_residual, bottleneck, classifier, conv, inverted_residual
from ops_catalog.ops.activation import FUSED, SEPARATE
from ops_catalog.spec import SpecError
from search.spaces.space import Gene, SearchSpace, Segment, halved, image

ACTIVATIONS = (*FUSED, *SEPARATE)
BLOCKS = {
    "inverted_residual": {"kernel", "expansion", "squeeze_excite", "activation"},
    "bottleneck": {"middle"},
    "basic_residual": set(),
    "conv": {"kernel", "activation"},
}  # type: dict[str, set[str]]
"""What each can be told beside EVERY_STAGE: a choice without effect would be searched in vain."""

EVERY_STAGE = {"block", "channels", "stride", "depth"}
BUILT_IN = ("chamnet-mobile", "chamnet-res", "mbconv", "macro", "ofa-mobile")
"""Names that have samples and calibrations of their own."""

TOP = {"name", "resolution", "classes", "activation", "stem", "stage", "head"}
STEM = {"channels", "kernel", "stride"}
HEAD = {"channels"}
FIXED = {"block", "stride", "classes", "name"}
LARGEST = {"kernel": 31, "depth": 64, "expansion": 64, "resolution": 4096}
LARGEST_OTHER = 65536


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the description: fixed, or chosen by a gene."""

    choices: tuple[Any, ...]
    gene: str

    @property
    def genes(self) -> tuple[str, ...]:
        return (self.gene,) if len(self.choices) > 1 else ()

    def value(self, chosen: Mapping[str, int]) -> Any:
        if len(self.choices) == 1:
            return self.choices[0]
        value = chosen[self.gene]
        return self.choices[value] if isinstance(self.choices[0], str) else value


Settings = Mapping[str, Setting]


def load_space(path: Path) -> SearchSpace:
    """Reads a space. Raises SpecError, which names the place."""
    try:
        body = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"a space must be a readable TOML file, but {path} is not: {error}") from None
    try:
        return _space(body, path.stem)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _space(body: Mapping[str, Any], stem: str) -> SearchSpace:
    _known("a space", body, TOP)
    name, stages, activation = body.get("name", stem), body.get("stage"), body.get("activation", "relu6")
    if not isinstance(name, str) or not name or name in BUILT_IN:
        raise SpecError(f"a space must have a name of its own, none of {', '.join(BUILT_IN)}, but got {name!r}")
    if activation not in ACTIVATIONS:
        raise SpecError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, but got {activation!r}; lists go in stages"
        )
    if not isinstance(stages, list) or not stages:
        raise SpecError("a space must have at least one [[stage]], but got none")
    settings = [{"resolution": _setting("resolution", body.get("resolution", 224), "")}]
    classes = _setting("classes", body.get("classes", 1000), "").choices[0]
    settings.append(_table("stem", body.get("stem", {}), STEM, {"channels": 32, "kernel": 3, "stride": 2}))
    for number, stage in enumerate(stages, 1):
        defaults = _defaults(stage, activation)
        place = f"stage{number}"
        _known(f"{place} of block {stage['block']}", stage, EVERY_STAGE | BLOCKS[stage["block"]])
        settings.append(_table(place, stage, stage.keys(), defaults))
    settings.append(_table("head", body.get("head", {}), HEAD, {"channels": 0}))
    genes = [_gene(setting) for part in settings for setting in part.values() if len(setting.choices) > 1]
    space = SearchSpace(name, tuple(genes), _segments(settings, activation, classes))
    space.decode(tuple(gene.choices[-1] for gene in genes))
    return space


def _defaults(stage: Any, activation: Any) -> dict[str, Any]:
    if not isinstance(stage, dict) or not isinstance(stage.get("block"), str) or stage["block"] not in BLOCKS:
        raise SpecError(f"the block of a stage must be one of {', '.join(BLOCKS)}, but got {stage}")
    needed = {"channels"} | ({"middle"} if stage["block"] == "bottleneck" else set())
    if missing := needed - stage.keys():
        raise SpecError(f"a stage of {stage['block']} must have {', '.join(sorted(missing))}, but got {stage}")
    common = {"stride": 1, "depth": 1, "kernel": 3, "activation": activation}
    return {**common, "expansion": 6, "squeeze_excite": 0} if stage["block"] == "inverted_residual" else common


def _table(place: str, given: Any, known: Collection[str], defaults: Mapping[str, Any]) -> dict[str, Setting]:
    if not isinstance(given, dict):
        raise SpecError(f"{place} must be a table, but got {given!r}")
    _known(place, given, known)
    return {name: _setting(name, value, place) for name, value in {**given, **defaults, **given}.items()}


def _setting(name: str, value: Any, place: str) -> Setting:
    choices = tuple(value) if isinstance(value, list) else (value,)
    gene = f"{place}_{name}" if place else name
    if not all(isinstance(choice, int | float | str) for choice in choices):
        raise SpecError(f"{gene} must be a value or a list of them, but got {value!r}")
    if not choices or len(set(choices)) < len(choices) or (name in FIXED and len(choices) > 1):
        raise SpecError(f"{gene} must be {'one value' if name in FIXED else 'different values'}, but got {value!r}")
    if name == "activation":
        if not set(choices) <= set(ACTIVATIONS):
            raise SpecError(f"{gene} must be among {', '.join(ACTIVATIONS)}, but got {value!r}")
    elif name != "block":
        lowest, highest = (0 if name == "squeeze_excite" or gene == "head_channels" else 1), LARGEST.get(name)
        if not all(type(c) is int and lowest <= c <= (highest or LARGEST_OTHER) for c in choices):
            raise SpecError(f"{gene} must be from {lowest} to {highest or LARGEST_OTHER}, but got {value!r}")
        choices = tuple(sorted(choices))
    return Setting(choices, gene)


def _gene(setting: Setting) -> Gene:
    numbered = isinstance(setting.choices[0], str)
    return Gene(setting.gene, tuple(range(len(setting.choices))) if numbered else setting.choices)


def _segments(settings: list[dict[str, Setting]], activation: str, classes: int) -> tuple[Segment, ...]:
    resolution, stem, *stages, head = settings
    size = resolution["resolution"]
    strides: list[int] = []
    chain = [_segment(size, Setting((3,), ""), strides, stem, partial(_stem, activation))]
    strides.append(stem["stride"].choices[0])
    enter = stem["channels"]
    for stage in stages:
        stride, depth = stage["stride"].choices[0], stage["depth"]
        inside = {name: setting for name, setting in stage.items() if name != "depth"}
        chain.append(_segment(size, enter, strides, inside, partial(_block, stride)))
        strides, enter = [*strides, stride], stage["channels"]
        if depth.choices != (1,):
            chain.append(_repeated(_segment(size, enter, strides, inside, partial(_block, 1)), depth))
    return (*chain, _segment(size, enter, strides, head, partial(_head, classes)))


def _segment(size: Setting, enter: Setting, strides: list[int], settings: Settings, build: Any) -> Segment:
    """A segment that depends on the genes of its own settings, and those of its input's size and channels."""
    names = dict.fromkeys(name for s in (size, enter, *settings.values()) for name in s.genes)
    genes, before = tuple(names), tuple(strides)

    def shape(*values: int) -> tuple[int, int, int, int]:
        chosen = dict(zip(genes, values, strict=True))
        return image(enter.value(chosen), halved(size.value(chosen), *before))

    def append(net: Network, x: str, *values: int) -> str:
        chosen = dict(zip(genes, values, strict=True))
        return str(build(net, x, {name: setting.value(chosen) for name, setting in settings.items()}))

    return Segment(genes, shape, append)


def _repeated(segment: Segment, depth: Setting) -> Segment:
    """The same as many times as the depth says, less one."""
    if depth.genes:
        return Segment(segment.genes, segment.shape, segment.build, depth.gene, 1)
    times = depth.choices[0] - 1

    def append(net: Network, x: str, *values: int) -> str:
        for _ in range(times):
            x = segment.build(net, x, *values)
        return x

    return Segment(segment.genes, segment.shape, append)


def _stem(activation: str, net: Network, x: str, chosen: Mapping[str, Any]) -> str:
    return conv(net, x, chosen["channels"], chosen["kernel"], chosen["stride"], activation)


def _block(stride: int, net: Network, x: str, chosen: Mapping[str, Any]) -> str:
    block, channels, activation, kernel = (chosen[name] for name in ("block", "channels", "activation", "kernel"))
    if block == "conv":
        return conv(net, x, channels, kernel, stride, activation)
    if block == "basic_residual":
        return basic_residual(net, x, channels, stride)
    if block == "bottleneck":
        return bottleneck(net, x, chosen["middle"], channels, stride)
    enter, divisor, expansion = net.shape(x)[1], chosen["squeeze_excite"], chosen["expansion"]
    squeeze = max(1, enter // divisor) if divisor else 0
    return inverted_residual(
        net, x, enter * expansion, channels, kernel, stride, activation, squeeze, expand=expansion > 1
    )


def _head(classes: int, net: Network, x: str, chosen: Mapping[str, Any]) -> str:
    if chosen["channels"]:
        x = conv(net, x, chosen["channels"], activation="relu6")
    return classifier(net, x, classes)


def _known(place: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := given.keys() - known:
        raise SpecError(f"{place} must have {', '.join(sorted(known))} only, but got {', '.join(sorted(unknown))}")
