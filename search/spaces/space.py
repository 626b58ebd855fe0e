"""SearchSpace: networks that differ in a few choices, as a chain of segments.

A genome holds the values themselves (24 channels, not choice 2), so that a published network between the steps of a
space is expressible in it. A segment is a run of operators that depends on few genes, so that everything about a
network - its operators, its cost - follows from small tables over the choices of these genes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from ops_catalog.build import Network, batch_suffix, op_with_dtype, with_batch, with_dtype
from ops_catalog.spec import Graph, OpSpec, SpecError

Genome = tuple[int, ...]

Genomes = np.ndarray[tuple[int, int], np.dtype[np.int64]]
"""n networks x d genes."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice.

    Attributes:
        choices: ascending.
        between: values between the choices are networks, too, though none is ever sampled.
    """

    name: str
    choices: tuple[int, ...]
    between: bool = False

    def has(self, value: int) -> bool:
        inside = self.choices[0] <= value <= self.choices[-1]
        return inside if self.between else value in self.choices


def steps(name: str, low: int, high: int, step: int = 1) -> Gene:
    """A gene from ``low`` to ``high`` in steps; values between them are networks, too."""
    return Gene(name, tuple(range(low, high + 1, step)), between=True)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of operators, and the genes that decide them and the shape they start from.

    Attributes:
        genes: names; their values are the arguments of ``shape`` and ``build``.
        shape: of its input, N x C x H x W.
        build: appends the operators to a Network after a tensor; returns the output's name.
        count: name of the gene that says how often it comes in a row; "" for once.
        less: how many fewer than that gene.
        batch: images at once; ``shape`` and ``build`` are of one.
    """

    genes: tuple[str, ...]
    shape: Callable[..., tuple[int, int, int, int]]
    build: Callable[..., str]
    count: str = ""
    less: int = 0
    batch: int = 1

    def graph(self, values: Sequence[int]) -> Graph:
        """The segment alone, as a network."""
        net = Network("segment", self.shape(*values))
        graph = net.finish(self.build(net, net.input, *values))
        return graph if self.batch == 1 else with_batch(graph, self.batch)


@dataclass(frozen=True)
class SearchSpace:
    """Networks described by genomes.

    Attributes:
        name: the family that calibrations are kept under, too; with the suffix of its batch.
        same: maps genomes (n x d) that are one network onto one of them; None where all differ.
        batch: images that its networks take at once.
    """

    name: str
    genes: tuple[Gene, ...]
    segments: tuple[Segment, ...]
    same: Callable[[Genomes], Genomes] | None = None
    batch: int = 1

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of every gene."""
        return {gene.name: position for position, gene in enumerate(self.genes)}

    @property
    def size(self) -> int:
        """Number of genomes."""
        total = 1
        for gene in self.genes:
            total *= len(gene.choices)
        return total

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random genome, every gene uniform over its choices."""
        return tuple(map(int, self.sample_many(rng, 1)[0]))

    def sample_many(self, rng: np.random.Generator, count: int) -> Genomes:
        """Random genomes (count x d), every gene uniform over its choices."""
        return np.stack([rng.choice(np.array(gene.choices), count) for gene in self.genes], axis=1)

    def check(self, genome: Sequence[int]) -> None:
        """Raises SpecError where a value is none of its gene's."""
        if len(genome) != len(self.genes):
            raise SpecError(f"a genome of {self.name} must have {len(self.genes)} genes, but got {len(genome)}")
        for gene, value in zip(self.genes, genome, strict=True):
            if not gene.has(value):
                known = f"from {gene.choices[0]} to {gene.choices[-1]}"
                if not gene.between:
                    known = f"one of {', '.join(map(str, gene.choices))}"
                raise SpecError(f"{gene.name} of {self.name} must be {known}, but got {value}")

    def decode(self, genome: Sequence[int], dtype: str = "float32") -> Graph:
        """The network of a genome. Raises SpecError."""
        self.check(genome)
        chosen = dict(zip((gene.name for gene in self.genes), genome, strict=True))
        net = Network(genome_name(self.name, genome), self.segments[0].shape(*self._values(self.segments[0], chosen)))
        x = net.input
        for segment in self.segments:
            for _ in range(chosen[segment.count] - segment.less if segment.count else 1):
                x = segment.build(net, x, *self._values(segment, chosen))
        graph = net.finish(x)
        return with_dtype(graph if self.batch == 1 else with_batch(graph, self.batch), dtype)

    def operators(self, dtype: str = "float32") -> Iterator[OpSpec]:
        """Every operator that any network on the steps of the space can need, each once, in a fixed order."""
        found: dict[OpSpec, None] = {}
        for segment in self.segments:
            for values in self.combinations(segment):
                found.update(dict.fromkeys(segment.graph(values).operators))
        yield from (op_with_dtype(op, dtype) for op in found)

    def combinations(self, segment: Segment) -> Iterator[tuple[int, ...]]:
        """All values of a segment's genes, the last one fastest."""
        return product(*(self.genes[self.index[name]].choices for name in segment.genes))

    def narrowed(self, choices: Mapping[str, Sequence[int]]) -> SearchSpace:
        """The part of the space where these genes have these values only. Raises SpecError."""
        for name, values in choices.items():
            if name not in self.index:
                raise SpecError(f"{self.name} must have the gene, but got {name!r}; it has {', '.join(self.index)}")
            gene = self.genes[self.index[name]]
            if not values or not all(map(gene.has, values)):
                raise SpecError(f"{name} of {self.name} must be among {gene.choices}, but got {tuple(values)}")
        genes = (replace(g, choices=tuple(sorted(set(choices.get(g.name, g.choices))))) for g in self.genes)
        return replace(self, genes=tuple(genes))

    def with_batch(self, batch: int) -> SearchSpace:
        """The same genomes for another number of images: ``chamnet-res@b32``."""
        if batch == self.batch:
            return self
        name = self.name.removesuffix(batch_suffix(self.batch)) + batch_suffix(batch)
        return replace(self, name=name, batch=batch, segments=tuple(replace(s, batch=batch) for s in self.segments))

    @property
    def plain(self) -> SearchSpace:
        """The same for one image: accuracies are kept under its name, since they do not depend on the batch."""
        return self.with_batch(1)

    def _values(self, segment: Segment, chosen: Mapping[str, int]) -> list[int]:
        return [chosen[name] for name in segment.genes]


def fixed_genes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``resolution=192,224`` and others as genes and their values. Raises SpecError."""
    found = {}
    for text in texts:
        if not re.fullmatch(r"\w+=-?\d+(,-?\d+)*", text, re.ASCII):
            raise SpecError(f"--fix must read like resolution=192,224, but got {text!r}")
        name, _, values = text.partition("=")
        found[name] = tuple(map(int, values.split(",")))
    return found


def genome_name(space: str, genome: Sequence[int]) -> str:
    """A short name that is the same wherever the genome is."""
    return f"{space}:{format_genome(genome)}"


def format_genome(genome: Sequence[int]) -> str:
    return "-".join(map(str, genome))


def parse_genome(text: str) -> Genome:
    """The inverse of ``format_genome``. Raises SpecError."""
    if not re.fullmatch(r"\d+(-\d+)*", text, re.ASCII):
        raise SpecError(f"a genome must read like 224-32-1-16, but got {text!r}")
    return tuple(map(int, text.split("-")))


def halved(size: int, *strides: int) -> int:
    """Side of an image after convolutions with "same" padding and these strides."""
    for stride in strides:
        size = -(-size // stride)
    return size


def image(channels: int, size: int) -> tuple[int, int, int, int]:
    return (1, channels, size, size)


def genomes_array(genomes: Sequence[Sequence[int]]) -> Any:
    return np.array(genomes, dtype=np.int64)
