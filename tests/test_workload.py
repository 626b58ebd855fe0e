"""What commands are asked to measure."""

from __future__ import annotations

from host.cli_workload import SHOWING, workload_of
from ops_catalog.sweep import distinct_operators
from search.spaces import space_named


def test_networks_come_with_a_whole_space_and_bring_no_operators_of_their_own() -> None:
    workload = workload_of("mbconv", 0, None, "", 0, 0)
    assert len(workload.graphs) == SHOWING
    assert set(workload.operators) == set(space_named("mbconv").operators())
    assert set(distinct_operators(workload.graphs, workload.operators)) == set(workload.operators)


def test_of_some_networks_only_their_operators_are_measured() -> None:
    workload = workload_of("mbconv", 2, None, "", 0, 0)
    assert (len(workload.graphs), workload.operators) == (2, ())
