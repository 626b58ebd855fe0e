"""Search spaces: SPACES, name -> module with ``SPACE``.

A genome holds the values themselves (24 channels, not choice 2), so that a published network between the steps of
a space is expressible in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from ops_catalog.spec import Graph, OpSpec, SpecError

SPACES = {"chamnet-mobile": "search.spaces.chamnet_mobile", "chamnet-res": "search.spaces.chamnet_res"}

Genome = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice: from ``low`` to ``high`` in steps."""

    name: str
    low: int
    high: int
    step: int = 1

    @property
    def choices(self) -> range:
        return range(self.low, self.high + 1, self.step)


class SearchSpace(Protocol):
    """Networks described by genomes."""

    name: str
    genes: tuple[Gene, ...]

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random genome, every gene uniform over its choices."""

    def check(self, genome: Sequence[int]) -> None:
        """Raises SpecError where the genome lies outside the space."""

    def architecture(self, genome: Sequence[int]) -> Any:
        """What a genome stands for, in the words of its family. Raises SpecError."""

    def encode(self, network: Any) -> Genome:
        """The genome of an architecture. Raises SpecError where it is no point of the space."""

    def decode(self, genome: Genome, dtype: str = "float32") -> Graph:
        """The network of a genome. Raises SpecError."""

    def operators(self, dtype: str = "float32", resolutions: Iterable[int] | None = None) -> Iterable[OpSpec]:
        """Every operator that any network on the steps of the space can need, each once; at all resolutions if None."""


def space_named(name: str) -> SearchSpace:
    """Raises SpecError for a name that is not in SPACES."""
    if name not in SPACES:
        raise SpecError(f"a search space must be one of {', '.join(SPACES)}, but got {name!r}")
    return cast(SearchSpace, import_module(SPACES[name]).SPACE)


def sample_genome(genes: Sequence[Gene], rng: np.random.Generator) -> Genome:
    return tuple(int(rng.choice(gene.choices)) for gene in genes)


def check_genome(space: str, genes: Sequence[Gene], genome: Sequence[int]) -> None:
    """Raises SpecError where a value is outside its gene's range; between its steps is allowed."""
    if len(genome) != len(genes):
        raise SpecError(f"a genome of {space} must have {len(genes)} genes, but got {len(genome)}")
    for gene, value in zip(genes, genome, strict=True):
        if not gene.low <= value <= gene.high:
            raise SpecError(f"{gene.name} of {space} must be from {gene.low} to {gene.high}, but got {value}")


def genome_name(space: str, genome: Genome) -> str:
    """A short name that is the same wherever the genome is."""
    return f"{space}:{'-'.join(map(str, genome))}"
