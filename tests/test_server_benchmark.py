"""The server comparison: what is measured for its candidates."""

from __future__ import annotations

from argparse import Namespace

from benchmarks.server import _workload
from host.validate import sample_networks
from search.spaces import space_named

FIXED = {"resolution": (224,), "stem": (64,), "c4": (2048,)}


def test_networks_that_tell_the_operators_of_candidates_are_as_these_are() -> None:
    space = space_named("chamnet-res")
    within = space.narrowed(FIXED)
    graphs = _workload(within, Namespace(profile_networks=5, seed=0)).graphs
    assert len({graph.name for graph in graphs}) == 5
    for graph in graphs:
        genome = [int(value) for value in graph.name.partition(":")[2].split("-")]
        assert all(genome[space.index[name]] in values for name, values in FIXED.items())


def test_without_a_number_of_networks_every_operator_of_the_candidates_is_measured() -> None:
    within = space_named("chamnet-res").narrowed(FIXED)
    found = _workload(within, Namespace(profile_networks=0, seed=0))
    assert (set(found.operators), found.graphs) == (set(within.operators()), ())


def test_a_part_of_a_space_gives_no_more_networks_than_it_has() -> None:
    space = space_named("chamnet-res")
    narrow = space.narrowed({gene.name: gene.choices[:1] for gene in space.genes[1:]})
    assert len({graph.name for graph in sample_networks(narrow, 1000, 0)}) == narrow.size == len(space.genes[0].choices)
