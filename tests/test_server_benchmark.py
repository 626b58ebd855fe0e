"""The server comparison: what is measured for its candidates."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.server import Comparison, _workload, arguments, choose_measured, main
from benchmarks.server_choice import Choice
from host.devices import choose_cpus
from host.setting import Setting, Summary, Workload
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


class Trial:
    """A comparison whose choices are given, and whose profiles find so many operators lacking; it keeps what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lacking: Sequence[int], rounds: int) -> None:
        self.space = space_named("chamnet-res")
        self.genomes = [tuple(gene.choices[number] for gene in self.space.genes) for number in (0, 1, -1)]
        self.measured: list[str] = []
        self._choices, self._lacking, self._rounds = iter(self.genomes), iter(lacking), rounds
        priced = Namespace(latency_ns=lambda genomes: np.full(len(genomes), 2e6))
        for name, value in (
            ("_choose", lambda *_: [Choice(next(self._choices), "resnet-50", 1.0)]),
            ("profile", self._profile),
            ("build_cells", lambda space: None),
            ("cost_model", lambda *_: priced),
        ):
            monkeypatch.setattr(f"benchmarks.server.{name}", value)

    def choose(self) -> Choice:
        rig: Any = Namespace(store=None, unit=None)
        comparison = Comparison(rig, rig, Setting("fake", choose_cpus(1)), self.space, Namespace(rounds=self._rounds))
        (chosen,) = choose_measured(comparison, "cpu", {})
        return chosen

    def _profile(self, store: object, unit: object, setting: object, workload: Workload, progress: object) -> Summary:
        self.measured += [graph.name for graph in workload.graphs]
        return Summary("cpu", wanted=9, already=9 - next(self._lacking))


def test_candidates_are_chosen_again_until_no_operator_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, lacking=(5, 2, 0), rounds=4)
    assert trial.choose() == Choice(trial.genomes[2], "resnet-50", 1.0)
    assert trial.measured == [trial.space.decode(genome).name for genome in trial.genomes]


def test_the_last_choice_is_priced_by_what_is_measured_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, lacking=(5, 2), rounds=1)
    assert trial.choose() == Choice(trial.genomes[1], "resnet-50", 2.0)
    assert trial.measured == [trial.space.decode(genome).name for genome in trial.genomes[:2]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resolution", "must read like resolution=192,224, but got 'resolution'"),
        ("=224", "must read like resolution=192,224, but got '=224'"),
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--named", "nonet"), "'nonet'"),
        (("--networks", "2"), "--networks must be at least 3, but got 2"),
        (("--samples", "no.csv"), "--samples must be a file, but no.csv is none"),
        (("--candidates", "99"), "argument --candidates"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["server", *words])
    with pytest.raises(SystemExit) as ended:
        arguments()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
