"""The server comparison: what is measured for its candidates."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

import pytest

from benchmarks.server import _choose_measured, _workload, arguments, main
from benchmarks.server_choice import Choice
from host.setting import Summary, Workload
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


def test_candidates_are_chosen_again_until_their_operators_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_named("chamnet-res")
    genomes = [tuple(gene.choices[number] for gene in space.genes) for number in (0, 1, -1)]
    choices = ([Choice(genome, "resnet-50", 1.0)] for genome in genomes)
    summaries = (Summary("cpu", wanted=3, already=already) for already in (1, 2, 3))
    measured: list[str] = []

    def profiled(store: object, unit: object, setting: object, workload: Workload, progress: object) -> Summary:
        measured.extend(graph.name for graph in workload.graphs)
        return next(summaries)

    monkeypatch.setattr("benchmarks.server._choose", lambda *_: next(choices))
    monkeypatch.setattr("benchmarks.server.profile", profiled)
    setting = Namespace(dtype="float32")
    (chosen,) = _choose_measured(Any, Any, setting, space, "cpu", {}, Namespace(rounds=4))  # type: ignore[arg-type]
    assert chosen.genome == genomes[2]
    assert measured == [space.decode(genome).name for genome in genomes]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resolution", "must read like resolution=192,224, but got 'resolution'"),
        ("resolution=", "must read like resolution=192,224, but got 'resolution='"),
        ("resolution=²", "must read like resolution=192,224, but got 'resolution=²'"),
        ("resolution=big", "must read like resolution=192,224, but got 'resolution=big'"),
        ("width=3", "must have the gene, but got 'width'; it has"),
        ("resolution=225", "must be among"),
    ],
)
def test_what_cannot_be_fixed_is_told_in_a_sentence(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["server", "--fix", "stem=64", "--fix", text])
    with pytest.raises(SystemExit) as ended:
        arguments()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_genes_are_fixed_at_the_values_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["server", "--fix", "resolution=192,224", "--fix", "stem=64"])
    assert arguments().fix == {"resolution": (192, 224), "stem": (64,)}


def test_a_device_that_is_not_there_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["server", "--device", "nowhere"])
    with pytest.raises(SystemExit, match="'nowhere'"):
        main()
