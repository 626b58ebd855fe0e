"""ChamNet-Res: bottleneck ResNets scaled down from an outer bound as deep as ResNet-152.

Channels and bottleneck width of a stage go from a quarter of ResNet-152's up to all of them, its depth from one block
to 3, 8, 36 and 3, resolution from 128 to 224. ResNet-50, 101 and 152 are points of it. The paper gives the outer bound;
the lower ends, the steps, and a bottleneck width that varies apart from the channels are our choice.

Networks on its steps need 992 distinct operators at one resolution and 3,890 at all four.

References:
    Dai et al., ChamNet, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ops_catalog.build import Network, op_with_dtype, with_dtype
from ops_catalog.networks.blocks import bottleneck, classifier, conv
from ops_catalog.networks.resnet import STRIDES, BottleneckStages, build_bottlenecks
from ops_catalog.spec import Graph, OpSpec
from search.spaces import Gene, Genome, check_genome, genome_name, sample_genome

GENES = (
    Gene("resolution", 128, 224, 32),
    Gene("stem", 32, 64, 16),
    Gene("c1", 64, 256, 32), Gene("m1", 16, 64, 16), Gene("n1", 1, 3),
    Gene("c2", 128, 512, 64), Gene("m2", 32, 128, 32), Gene("n2", 1, 8),
    Gene("c3", 256, 1024, 64), Gene("m3", 64, 256, 32), Gene("n3", 1, 36),
    Gene("c4", 512, 2048, 128), Gene("m4", 128, 512, 64), Gene("n4", 1, 3),
)  # fmt: skip
"""Of each stage: output channels, bottleneck width, depth."""


class ChamNetRes:
    """The space; ``SPACE`` is the one there is."""

    name = "chamnet-res"
    genes = GENES

    def sample(self, rng: np.random.Generator) -> Genome:
        return sample_genome(GENES, rng)

    def check(self, genome: Sequence[int]) -> None:
        check_genome(self.name, GENES, genome)

    def architecture(self, genome: Sequence[int]) -> BottleneckStages:
        self.check(genome)
        resolution, stem, *stages = genome
        return BottleneckStages(resolution, stem, tuple(stages[::3]), tuple(stages[1::3]), tuple(stages[2::3]))

    def encode(self, network: BottleneckStages) -> Genome:
        stages = zip(network.channels, network.middles, network.depths, strict=True)
        genome = (network.resolution, network.stem, *(value for stage in stages for value in stage))
        self.check(genome)
        return genome

    def decode(self, genome: Genome, dtype: str = "float32") -> Graph:
        return with_dtype(build_bottlenecks(genome_name(self.name, genome), self.architecture(genome)), dtype)

    def operators(self, dtype: str = "float32", resolutions: Iterable[int] | None = None) -> Iterator[OpSpec]:
        """Stage by stage: networks of two blocks, for every resolution, entering and leaving width, and middle."""
        chosen = GENES[0].choices if resolutions is None else resolutions
        found = dict.fromkeys(op for network in _probes(chosen) for op in network.operators)
        yield from (op_with_dtype(op, dtype) for op in found)


def _probes(resolutions: Iterable[int]) -> Iterator[Graph]:
    stages = [GENES[2 + 3 * i : 5 + 3 * i] for i in range(4)]
    entering = [GENES[1].choices, *(stage[0].choices for stage in stages[:-1])]
    for resolution in resolutions:
        yield from (_stem_probe(resolution, stem) for stem in GENES[1].choices)
        size = -(-resolution // 4)
        for (channels, middles, _), enters, stride in zip(stages, entering, STRIDES, strict=True):
            for leave in channels.choices:
                for middle in middles.choices:
                    yield from (_stage_probe(size, enter, middle, leave, stride) for enter in enters)
            size = -(-size // stride)
        yield from (_head_probe(size, leave) for leave in stages[-1][0].choices)


def _stem_probe(resolution: int, stem: int) -> Graph:
    net = Network("stem", (1, 3, resolution, resolution))
    x = conv(net, net.input, stem, 7, 2, "relu")
    return net.finish(net.add("max_pool", x, kernel=(3, 3), stride=(2, 2)))


def _stage_probe(size: int, enter: int, middle: int, leave: int, stride: int) -> Graph:
    net = Network("stage", (1, enter, size, size))
    x = bottleneck(net, net.input, middle, leave, stride)
    return net.finish(bottleneck(net, x, middle, leave))


def _head_probe(size: int, channels: int) -> Graph:
    net = Network("head", (1, channels, size, size))
    return net.finish(classifier(net, net.input))


SPACE = ChamNetRes()
