"""ChamNet-Mobile: inverted residuals with 3x3 depthwise convolutions, seven stages.

Resolution 96...224, widths in steps of 8 (the head 16); expansion, channels and depth of every stage. ChamNet-A...F
and MobileNetV2 are points of it. The first stage's expansion may be 0: a block without its first 1x1 convolution, as
in MobileNetV2.

Networks on its steps need 9,702 distinct operators at one resolution and 47,032 at all five. 3,185 at each resolution
are the last 1x1 convolution (49 widths in, 65 out): a head in steps of 8 would add 3,325 more.

References:
    Dai et al., ChamNet, CVPR 2019; ranges as in RANGES.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ops_catalog.build import Network, op_with_dtype, with_dtype
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.networks.chamnet import MobileStages, build_stages
from ops_catalog.spec import Graph, OpSpec, SpecError
from search.spaces import Gene, Genome, check_genome, genome_name, sample_genome

STRIDES = (1, 2, 2, 2, 1, 2, 1)
RANGES = (
    ((0, 1), (8, 32), (1, 1)),
    ((2, 6), (8, 40), (1, 2)),
    ((2, 6), (8, 48), (1, 3)),
    ((2, 6), (16, 96), (1, 4)),
    ((2, 6), (32, 160), (1, 3)),
    ((2, 6), (56, 256), (1, 3)),
    ((2, 6), (96, 480), (1, 1)),
)
"""Of each stage: expansion, channels, depth."""

GENES = (
    Gene("resolution", 96, 224, 32),
    Gene("stem", 8, 48, 8),
    *(
        Gene(f"{name}{stage}", low, high, 8 if name == "c" else 1)
        for stage, ranges in enumerate(RANGES, 1)
        for name, (low, high) in zip("tcn", ranges, strict=True)
    ),
    Gene("head", 1024, 2048, 16),
)


class ChamNetMobile:
    """The space; ``SPACE`` is the one there is."""

    name = "chamnet-mobile"
    genes = GENES

    def sample(self, rng: np.random.Generator) -> Genome:
        return sample_genome(GENES, rng)

    def check(self, genome: Sequence[int]) -> None:
        check_genome(self.name, GENES, genome)

    def architecture(self, genome: Sequence[int]) -> MobileStages:
        self.check(genome)
        rows = zip(genome[2:-1:3], genome[3:-1:3], genome[4:-1:3], STRIDES, strict=True)
        return MobileStages(genome[0], genome[1], tuple(rows), genome[-1])

    def encode(self, network: MobileStages) -> Genome:
        if strides_of(network) != STRIDES:
            raise SpecError(f"stages of {self.name} must have strides {STRIDES}, but got {strides_of(network)}")
        stages = [value for t, c, n, _ in network.stages for value in (t, c, n)]
        genome = (network.resolution, network.stem, *stages, network.head)
        self.check(genome)
        return genome

    def decode(self, genome: Genome, dtype: str = "float32") -> Graph:
        return with_dtype(build_stages(genome_name(self.name, genome), self.architecture(genome)), dtype)

    def operators(self, dtype: str = "float32", resolutions: Iterable[int] | None = None) -> Iterator[OpSpec]:
        """Stage by stage: networks of one stage, for every resolution, entering and leaving width, and expansion."""
        chosen = GENES[0].choices if resolutions is None else resolutions
        found = dict.fromkeys(op for network in _probes(chosen) for op in network.operators)
        yield from (op_with_dtype(op, dtype) for op in found)


def strides_of(network: MobileStages) -> tuple[int, ...]:
    return tuple(stride for *_, stride in network.stages)


def _probes(resolutions: Iterable[int]) -> Iterator[Graph]:
    widths = {name: [gene.choices for gene in GENES if gene.name.startswith(name)] for name in ("stem", "c", "t", "n")}
    entering = [widths["stem"][0], *widths["c"][:-1]]
    for resolution in resolutions:
        size = -(-resolution // 2)
        yield from (_stem_probe(resolution, stem) for stem in widths["stem"][0])
        for stage, stride in enumerate(STRIDES):
            expansions, depth = widths["t"][stage], widths["n"][stage][-1]
            for leave in widths["c"][stage]:
                for t in expansions:
                    yield from (_stage_probe(size, enter, leave, t, stride, depth) for enter in entering[stage])
            size = -(-size // stride)
        yield from (_head_probe(size, c, head) for c in widths["c"][-1] for head in GENES[-1].choices)


def _stem_probe(resolution: int, stem: int) -> Graph:
    net = Network("stem", (1, 3, resolution, resolution))
    return net.finish(conv(net, net.input, stem, 3, 2, "relu6"))


def _stage_probe(size: int, enter: int, leave: int, t: int, stride: int, depth: int) -> Graph:
    net = Network("stage", (1, enter, size, size))
    x = inverted_residual(net, net.input, enter * max(1, t), leave, 3, stride, expand=t > 0)
    if depth > 1:
        x = inverted_residual(net, x, leave * max(1, t), leave, 3, 1, expand=t > 0)
    return net.finish(x)


def _head_probe(size: int, channels: int, head: int) -> Graph:
    net = Network("head", (1, channels, size, size))
    return net.finish(classifier(net, conv(net, net.input, head, activation="relu6")))


SPACE = ChamNetMobile()
