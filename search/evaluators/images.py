"""Labelled images for training: a .npz file, or a folder with a folder of images for each class."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lut_db.errors import LutError
from search.cells import Array

HELD_OUT = 0.2
"""Share of the training set that accuracies for the predictor come from; the test set is for reporting only."""

NAMES = ("x_train", "y_train", "x_test", "y_test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Images:
    """A data set: images n x height x width x 3 (uint8), labels n."""

    train: Array
    train_labels: Array
    held_out: Array
    held_out_labels: Array
    test: Array
    test_labels: Array

    @property
    def classes(self) -> int:
        return int(max(self.train_labels.max(), self.held_out_labels.max(), self.test_labels.max())) + 1

    @cached_property
    def fingerprint(self) -> str:
        """Of what is trained on: differs wherever the images or labels do."""
        found = hashlib.sha256(repr(self.train.shape).encode())
        for array in (self.train, self.train_labels):
            found.update(array.tobytes())
        return found.hexdigest()[:12]

    def train_tensors(self, side: int) -> tuple[Any, Any]:
        return _tensors(self.train, self.train_labels, side)

    def held_out_tensors(self, side: int) -> tuple[Any, Any]:
        return _tensors(self.held_out, self.held_out_labels, side)

    def test_tensors(self, side: int) -> tuple[Any, Any]:
        return _tensors(self.test, self.test_labels, side)


def load_images(path: Path, seed: int = 0) -> Images:
    """Reads a data set and holds a fifth of its training set out.

    A .npz file has x_train, y_train, x_test, y_test; a folder has train/CLASS/*.png and test/CLASS/*.png.

    Raises:
        LutError: it is something else.
    """
    arrays = _from_folder(path) if path.is_dir() else _from_npz(path)
    x, y, x_test, y_test = arrays
    if len(x) != len(y) or len(x_test) != len(y_test) or len(x) < 10 or not len(x_test):
        raise LutError(f"{path} must have a label for each image, at least 10 to train on and one to test")
    order = np.random.default_rng(seed).permutation(len(x))
    split = round(len(x) * HELD_OUT)
    held, kept = order[:split], order[split:]
    return Images(_coloured(x[kept]), y[kept], _coloured(x[held]), y[held], _coloured(x_test), y_test)


def _from_npz(path: Path) -> list[Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise LutError(f"images must be in a folder or a .npz file, but {path} cannot be read: {error}") from None
    if missing := [name for name in NAMES if name not in found]:
        raise LutError(f"{path} must have {', '.join(NAMES)}, but lacks {', '.join(missing)}")
    if found["x_train"].ndim not in (3, 4) or found["x_train"].dtype != np.uint8:
        raise LutError(
            f"x_train of {path} must be uint8 images n x height x width (x channels), but got "
            f"{found['x_train'].dtype} {found['x_train'].shape}"
        )
    return [found["x_train"], found["y_train"].astype(np.int64), found["x_test"], found["y_test"].astype(np.int64)]


def _from_folder(path: Path) -> list[Array]:
    from PIL import Image

    classes = sorted(folder.name for folder in (path / "train").glob("*") if folder.is_dir())
    if not classes:
        raise LutError(f"{path} must have train/CLASS and test/CLASS folders of images, but has none")
    found: list[Array] = []
    side = 0
    for part in ("train", "test"):
        images, labels = [], []
        for label, name in enumerate(classes):
            for file in sorted((path / part / name).glob("*")):
                if file.suffix.lower() in SUFFIXES:
                    with Image.open(file) as opened:
                        side = side or max(opened.size)
                        images.append(np.asarray(opened.convert("RGB").resize((side, side))))
                    labels.append(label)
        found += [np.array(images, np.uint8), np.array(labels, np.int64)]
    return found


def _coloured(images: Array) -> Array:
    images = images[..., None] if images.ndim == 3 else images
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def _tensors(images: Array, labels: Array, side: int) -> tuple[Any, Any]:
    """Images as n x 3 x side x side around zero, and labels."""
    import torch
    from torch.nn import functional

    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1.0
    if x.shape[2:] != (side, side):
        x = functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    return x, torch.from_numpy(labels)
