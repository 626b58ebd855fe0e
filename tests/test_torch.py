"""PyTorch modules of networks: they compute what the exported files do, also after training (chamnet[train])."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops_catalog.build import single
from ops_catalog.export.torch import build_module, folded_weights
from ops_catalog.export.torch_layers import FORWARD
from ops_catalog.networks import build_network
from ops_catalog.ops import OPS
from search.evaluators import Options
from search.evaluators.torch_trainer import TrainedNetwork, export_trained, open_evaluator
from search.spaces import space_named
from search.spaces.toml import load_space
from tests.networks import random_network
from tests.test_ops import CASES, IDS, assert_close, draw_inputs, make, run_onnx, run_tflite

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install chamnet[train]")

TINY = """
resolution = 16
classes = 3
[stem]
channels = 8
[[stage]]
block = "inverted_residual"
channels = [8, 12]
expansion = [1, 3]
depth = [1, 2]
stride = 2
"""


def run_torch(module: object, inputs: dict[str, np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
    with torch.no_grad():
        return np.asarray(module.eval()(*map(torch.from_numpy, inputs.values())).numpy())  # type: ignore[attr-defined]


def write_shapes(path: Path, count: int = 240) -> None:
    """Images of three classes that a small network can tell apart: bright left, bright right, bright middle."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.random((count, 16, 16, 3)) * 60
    for image, label in zip(images, labels, strict=True):
        image[:, (0, 11, 5)[label] : (5, 16, 11)[label]] += 150
    np.savez(path, x_train=images[40:].astype(np.uint8), y_train=labels[40:], x_test=images[:40].astype(np.uint8),
             y_test=labels[:40])  # fmt: skip


def test_every_operator_type_has_a_module() -> None:
    assert FORWARD.keys() == OPS.keys() - {"inverted_residual"}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_module_computes_what_the_exported_operator_does(
    case: tuple[str, str, dict[str, object]], tmp_path: Path
) -> None:
    op = make(case)
    inputs = draw_inputs(op)
    assert_close(
        run_torch(build_module(single(op), seed=1), inputs), run_onnx(single(op), inputs, tmp_path, seed=1), 1e-5
    )


@pytest.mark.parametrize("name", ["mobilenet-v2-0.35-96", "mobilenet-v3-small-0.75-224", "resnet-18"])
def test_a_network_as_module_agrees_with_its_onnx_file(name: str, tmp_path: Path) -> None:
    graph = build_network(name)
    inputs = {"x0": np.random.default_rng(0).standard_normal(graph.inputs[0][1].shape, dtype=np.float32)}
    assert_close(run_torch(build_module(graph), inputs), run_onnx(graph, inputs, tmp_path), 1e-4)


@pytest.mark.parametrize("space", ["mbconv", "macro"])
def test_a_network_of_a_space_trains(space: str) -> None:
    chosen = space_named(space)
    module = build_module(chosen.decode(tuple(gene.choices[0] for gene in chosen.genes)), batch_norm=True)
    shape = chosen.segments[0].shape()
    loss = module.train()(torch.randn(2, *shape[1:])).square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_batch_norms_fold_into_both_file_formats(tmp_path: Path) -> None:
    graph = random_network(np.random.default_rng(3))
    module = build_module(graph, batch_norm=True)
    for _ in range(3):
        module.train()(torch.randn(4, 3, 32, 32) * 2 + 1)
    inputs = {"x0": np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)}
    wanted, weights = run_torch(module, inputs), folded_weights(module)
    assert_close(run_onnx(graph, inputs, tmp_path, weights=weights), wanted, 1e-4)
    assert_close(run_tflite(graph, inputs, tmp_path, weights=weights), wanted, 1e-4)


def test_training_learns_and_the_exported_file_is_as_accurate(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(TINY)
    write_shapes(tmp_path / "shapes.npz")
    space = load_space(tmp_path / "space.toml")
    trainer = open_evaluator(space, Options(str(tmp_path / "shapes.npz"), epochs=8, work=str(tmp_path / "work")))
    (found,) = trainer.evaluate([(8, 1, 1)])
    assert found.accuracy_percent is not None
    assert found.accuracy_percent > 80
    trained: TrainedNetwork = trainer.train((8, 1, 1))
    files = export_trained(trained, tmp_path)
    assert {path.suffix for path in files} == {".onnx", ".tflite"}
    images, _ = trainer.data.test_tensors(16)
    inputs = {"x0": images[:1].numpy()}
    module = build_module(trained.graph, weights=trained.weights)
    assert_close(run_onnx(trained.graph, inputs, tmp_path, weights=trained.weights), run_torch(module, inputs), 1e-4)


def test_a_training_that_was_cut_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(TINY)
    write_shapes(tmp_path / "shapes.npz")
    space = load_space(tmp_path / "space.toml")
    source, work = str(tmp_path / "shapes.npz"), str(tmp_path / "work")
    whole = open_evaluator(space, Options(source, epochs=4)).train((8, 3, 2))
    trainer = open_evaluator(space, Options(source, epochs=4, work=work))
    trainer.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        trainer.train((8, 3, 2))
    resumed = open_evaluator(space, Options(source, epochs=4, work=work)).train((8, 3, 2))
    assert resumed.resumed_epochs == 2
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_other_images_is_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(TINY)
    space, work = load_space(tmp_path / "space.toml"), str(tmp_path / "work")
    for count, resumed in ((240, 0), (200, 0), (240, 1)):
        write_shapes(tmp_path / "shapes.npz", count)
        trained = open_evaluator(space, Options(str(tmp_path / "shapes.npz"), epochs=1, work=work)).train((8, 1, 1))
        assert trained.resumed_epochs == resumed


def test_a_checkpoint_that_cannot_be_read_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(TINY)
    write_shapes(tmp_path / "shapes.npz")
    options = Options(str(tmp_path / "shapes.npz"), epochs=1, work=str(tmp_path / "work"))
    trainer = open_evaluator(load_space(tmp_path / "space.toml"), options)
    trainer.train((8, 1, 1))
    for path in (tmp_path / "work").iterdir():
        path.write_bytes(b"junk\n")
    assert trainer.train((8, 1, 1)).resumed_epochs == 0


def test_data_of_other_shapes_are_refused(tmp_path: Path) -> None:
    from lut_db.errors import LutError

    (tmp_path / "space.toml").write_text(TINY)
    np.savez(tmp_path / "bad.npz", a=np.zeros(3))
    with pytest.raises(LutError, match="x_train"):
        open_evaluator(load_space(tmp_path / "space.toml"), Options(str(tmp_path / "bad.npz")))
