"""OFA-Mobile: Once-for-All's MobileNetV3 space at width 1.2, the one that its tables of phones price.

Resolution 160 to 224 in steps of 4; five stages of two to four blocks, and of every block the kernel (3, 5, 7) and the
expansion (3, 4, 6). Blocks are single operators (``inverted_residual``), so that a table of blocks such as
``builtin:note10`` prices them. What the genes of blocks that are left out say changes nothing.

References:
    Cai et al., Once-for-All, ICLR 2020; mit-han-lab/once-for-all:
    ofa/imagenet_classification/elastic_nn/networks/ofa_mbv3.py.
"""

from __future__ import annotations

from functools import partial

from ops_catalog.build import Network
from ops_catalog.networks.blocks import conv, round_channels
from search.spaces.space import Gene, Genomes, SearchSpace, Segment, halved, image

STEM, FINAL, FEATURES, CLASSES = 24, 1152, 1536, 1000
STAGES = (
    (32, 2, "relu", False),
    (48, 2, "relu", True),
    (96, 2, "hard_swish", False),
    (136, 1, "hard_swish", True),
    (192, 2, "hard_swish", True),
)
"""Of each stage: channels, stride of its first block, activation, squeeze-excite."""

DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3, 4, 6)

GENES = (
    Gene("resolution", tuple(range(160, 225, 4))),
    *(
        gene
        for stage in range(1, len(STAGES) + 1)
        for gene in (
            Gene(f"d{stage}", DEPTHS),
            *(
                gene
                for block in range(1, max(DEPTHS) + 1)
                for gene in (Gene(f"k{stage}_{block}", KERNELS), Gene(f"e{stage}_{block}", EXPANSIONS))
            ),
        )
    ),
)


def _segments() -> tuple[Segment, ...]:
    chain = [Segment(("resolution",), lambda resolution: image(3, resolution), _stem)]
    enter, strides = STEM, [2]
    for number, (channels, stride, activation, squeezed) in enumerate(STAGES, 1):
        for block in range(1, max(DEPTHS) + 1):
            genes = ("resolution", f"d{number}", f"k{number}_{block}", f"e{number}_{block}")
            step = stride if block == 1 else 1
            build = partial(_block, block, channels, step, activation, squeezed)
            chain.append(Segment(genes, partial(_shape, enter, tuple(strides)), build))
            enter = channels
            strides.append(step)
    return (*chain, Segment(("resolution",), partial(_shape, enter, tuple(strides)), _head))


def _shape(channels: int, strides: tuple[int, ...], resolution: int, *_: int) -> tuple[int, int, int, int]:
    return image(channels, halved(resolution, *strides))


def _stem(net: Network, x: str, resolution: int) -> str:
    """The first convolution, and the first block, which has no choice."""
    x = conv(net, x, STEM, 3, 2, "hard_swish")
    return net.add("inverted_residual", x, middle=STEM, out_channels=STEM, activation="relu", expand=False)


def _block(
    number: int, channels: int, stride: int, activation: str, squeezed: bool,
    net: Network, x: str, resolution: int, depth: int, kernel: int, expansion: int,
) -> str:  # fmt: skip
    if number > depth:
        return x
    middle = net.shape(x)[1] * expansion
    return net.add(
        "inverted_residual", x, middle=middle, out_channels=channels, kernel=(kernel, kernel), stride=(stride, stride),
        activation=activation, squeeze=round_channels(middle / 4) if squeezed else 0,
    )  # fmt: skip


def _head(net: Network, x: str, resolution: int) -> str:
    x = conv(net, x, FINAL, activation="hard_swish")
    x = conv(net, net.add("global_average_pool", x), FEATURES, activation="hard_swish")
    x = net.add("reshape", x, shape=(1, FEATURES))
    return net.add("linear", x, out_features=CLASSES)


def canonical(genomes: Genomes) -> Genomes:
    """Genomes (n x d) of the same networks with the lowest choices where there is no block."""
    found = genomes.copy()
    index = {gene.name: position for position, gene in enumerate(GENES)}
    for stage in range(1, len(STAGES) + 1):
        for block in range(1, max(DEPTHS) + 1):
            absent = found[:, index[f"d{stage}"]] < block
            found[absent, index[f"k{stage}_{block}"]] = KERNELS[0]
            found[absent, index[f"e{stage}_{block}"]] = EXPANSIONS[0]
    return found


SPACE = SearchSpace("ofa-mobile", GENES, _segments(), same=canonical)
