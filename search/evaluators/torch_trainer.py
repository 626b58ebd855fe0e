"""Accuracies by training networks in PyTorch, on images of a folder or a .npz file.

The recipe: stochastic gradient descent with Nesterov momentum, a warm-up of one epoch and a cosine after it, label
smoothing, weight decay on what is no scale or shift; random shifts of up to an eighth of the side. On a GPU where there
is one, in mixed precision. The accuracy is that on a fifth of the training set, held out; the test set is for
reporting.

Chance comes from the seed alone: with the same number of threads on the same kind of processor, a training has the same
outcome in whatever process it runs, and whatever ran there before.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lut_db.errors import LutError
from ops_catalog import ops
from ops_catalog.export import export_graph
from ops_catalog.export.torch import build_module, folded_weights
from ops_catalog.export.weights import Weights
from ops_catalog.spec import Graph
from search.evaluators import Evaluation, Options
from search.evaluators.images import Images, load_images
from search.spaces.space import Genome, Genomes, SearchSpace, format_genome, parse_genome

BATCH = 64
RATE, MOMENTUM, DECAY, SMOOTHING = 0.1, 0.9, 1e-4, 0.1
SHIFT = 1 / 8


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network with what it learned.

    Attributes:
        weights: of the expanded operators, batch norm folded.
        held_out_percent, test_percent: accuracies.
        resumed_epochs: how many of its epochs came from a checkpoint.
    """

    graph: Graph
    weights: Weights
    held_out_percent: float
    test_percent: float
    resumed_epochs: int


class TorchTrainer:
    """Trains networks of a space on one data set.

    Attributes:
        stop_after: for trials: be interrupted after so many epochs of a call; None never.
    """

    def __init__(self, space: SearchSpace, data: Images, options: Options) -> None:
        self.pool: Genomes | None = None
        self.recipe = f"sgd cosine {options.epochs} epochs, rate {RATE}, batch {BATCH}, smoothing {SMOOTHING}"
        self.data = data
        self.seed = options.seed
        self.stop_after: int | None = None
        self._space = space
        self._options = options

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        for genome in genomes:
            start = time.monotonic()
            try:
                accuracy = self.train(genome).held_out_percent
            except (RuntimeError, FloatingPointError) as error:
                reason = str(error).splitlines()[0][:200]
                yield Evaluation(genome, None, f"the training failed: {reason}", time.monotonic() - start)
                continue
            yield Evaluation(genome, accuracy, "", time.monotonic() - start)

    def train(self, genome: Genome, tell: Callable[[int, float], None] | None = None) -> TrainedNetwork:
        """Trains one network; goes on from its checkpoint if there is one.

        Args:
            tell: told epochs and held-out accuracy in percent after every epoch but the last.

        Raises:
            FloatingPointError: the loss is no number any more.
        """
        import torch

        graph = self._space.decode(genome)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(self._options.seed)
        torch.backends.cudnn.deterministic = True
        if self._options.cpus_each:
            torch.set_num_threads(max(1, int(self._options.cpus_each)))
        module = build_module(graph, self._options.seed, batch_norm=True).to(device)
        optimiser = torch.optim.SGD(_groups(module), lr=RATE, momentum=MOMENTUM, nesterov=True)
        side = graph.inputs[0][1].shape[-1]
        train = [tensor.to(device) for tensor in self.data.train_tensors(side)]
        held_out = self.data.held_out_tensors(side)
        checkpoint = self._checkpoint(genome)
        done = _resume(checkpoint, module, optimiser, device)
        for epoch in range(done, self._options.epochs):
            if self.stop_after is not None and epoch - done >= self.stop_after:
                raise KeyboardInterrupt
            _train_epoch(module, optimiser, train, epoch, self._options)
            _keep(checkpoint, module, optimiser, epoch + 1)
            if tell is not None and epoch + 1 < self._options.epochs:
                tell(epoch + 1, _accuracy(module, *held_out, device))
        held_out_percent = _accuracy(module, *held_out, device)
        test_percent = _accuracy(module, *self.data.test_tensors(side), device)
        return TrainedNetwork(graph, folded_weights(module), held_out_percent, test_percent, done)

    def begun(self) -> list[Genome]:
        """Networks that have a checkpoint of these epochs, images and seed, the oldest first."""
        if not self._options.work:
            return []
        found = sorted(Path(self._options.work).glob("*.pt"), key=lambda path: path.stat().st_mtime)
        name = r"([0-9-]+)".join(map(re.escape, self._checkpoint_name))
        return [parse_genome(match[1]) for path in found if (match := re.fullmatch(name, path.name))]

    @property
    def _checkpoint_name(self) -> tuple[str, str]:
        """What stands before and after the genome."""
        facts = f"{self.data.fingerprint}-{self._options.epochs}-{self._options.seed}"
        return f"{Path(self._space.name).name}-", f"-{facts}.pt"

    def _checkpoint(self, genome: Genome) -> Path | None:
        if not self._options.work:
            return None
        folder = Path(self._options.work)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / format_genome(genome).join(self._checkpoint_name)


def open_evaluator(space: SearchSpace, options: Options) -> TorchTrainer:
    """Raises LutError where PyTorch is missing, or the data cannot be used."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise LutError(
            "the torch evaluator must have PyTorch, but it is not installed; pip install chamnet[train]"
        ) from None
    data = load_images(Path(options.source), options.seed)
    head = space.decode(tuple(gene.choices[0] for gene in space.genes)).nodes[-1].op
    outputs = ops.output(head).shape[-1]
    if data.classes > outputs:
        raise LutError(
            f"{space.name} must tell {data.classes} classes apart, but has {outputs} outputs; set its classes"
        )
    return TorchTrainer(space, data, options)


def export_trained(network: TrainedNetwork, folder: Path, name: str = "trained") -> list[Path]:
    """Writes a trained network as ONNX and TFLite."""
    written = []
    for file_format in ("onnx", "tflite"):
        path = folder / f"{name}.{file_format}"
        path.write_bytes(export_graph(network.graph, file_format, weights=network.weights))
        written.append(path)
    return written


def _groups(module: Any) -> list[dict[str, Any]]:
    """Weights decay; scales and shifts do not."""
    decays = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": decays, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]


def _rate(step: int, steps: int, warm: int) -> float:
    if step < warm:
        return RATE * (step + 1) / warm
    return RATE * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _train_epoch(module: Any, optimiser: Any, train: Sequence[Any], epoch: int, options: Options) -> None:
    """One pass; chance comes from the seed and the epoch, so that a resumed training is the same one."""
    import torch
    from torch.nn import functional

    images, labels = train
    rng = np.random.default_rng((options.seed, epoch))
    order = rng.permutation(len(images))
    batches = [order[i : i + BATCH] for i in range(0, len(order) - len(order) % BATCH or len(order), BATCH)]
    steps, warm = len(batches) * options.epochs, len(batches)
    module.train()
    for number, rows in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = _rate(epoch * len(batches) + number, steps, warm)
        x = _shifted(images[torch.from_numpy(rows).to(images.device)], rng)
        y = labels[torch.from_numpy(rows).to(labels.device)]
        with torch.autocast(x.device.type, enabled=x.device.type == "cuda", dtype=torch.bfloat16):
            loss = functional.cross_entropy(module(x), y, label_smoothing=SMOOTHING)
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is no number any more")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _shifted(images: Any, rng: np.random.Generator) -> Any:
    """A batch moved by up to an eighth of its side."""
    from torch.nn import functional

    side = images.shape[-1]
    reach = max(1, round(side * SHIFT))
    top, left = (int(value) for value in rng.integers(0, 2 * reach + 1, 2))
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    return padded[:, :, top : top + side, left : left + side].contiguous()


def _accuracy(module: Any, images: Any, labels: Any, device: Any) -> float:
    import torch

    module.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), 4 * BATCH):
            part = slice(start, start + 4 * BATCH)
            right += int((module(images[part].to(device)).argmax(dim=1).cpu() == labels[part]).sum())
    return 100.0 * right / len(images)


def _resume(path: Path | None, module: Any, optimiser: Any, device: Any) -> int:
    """Epochs that a checkpoint brings; 0 where there is none that can be read."""
    import torch

    if path is None or not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception:  # whatever its reader stumbles over
        return 0
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epochs"])


def _keep(path: Path | None, module: Any, optimiser: Any, epochs: int) -> None:
    import torch

    if path is not None:
        partial = path.with_suffix(".part")
        torch.save({"module": module.state_dict(), "optimiser": optimiser.state_dict(), "epochs": epochs}, partial)
        partial.replace(path)
