"""Where a TFLite operator stands: its tensors in the draft and in the file, and what is common to reading them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ops_catalog.parse import compose
from ops_catalog.parse.draft import Draft, Shape
from ops_catalog.parse.tflite_file import FileTensor
from ops_catalog.parse.tflite_layout import logical
from ops_catalog.spec import SpecError

ACTIVATIONS = {1: "relu", 3: "relu6", 4: "tanh"}


@dataclass(frozen=True, slots=True)
class Here:
    """An operator where it stands.

    Attributes:
        inputs: names in the draft; "" where one is left out. A constant has its stored shape there.
        files: the same tensors as the file has them.
        images: of each input, and in ``image`` of the output, whether it is stored as an image.
        made: the output's logical shape as the file claims it; None where it does not.
    """

    draft: Draft
    inputs: tuple[str, ...]
    files: tuple[FileTensor | None, ...]
    images: tuple[bool, ...]
    image: bool
    made: Shape | None
    options: dict[str, Any]

    def values(self, place: int) -> list[float]:
        """Of a small constant input. Raises SpecError where it is none."""
        file = self.files[place]
        if file is None or file.values is None:
            raise SpecError(f"input {place} must be a small constant")
        return [value.item() for value in file.values.reshape(-1)]

    def integers(self, place: int) -> list[int]:
        return [int(value) for value in self.values(place)]

    def weight(self, place: int) -> Shape:
        file = self.files[place]
        if file is None or not file.constant or file.shape is None:
            raise SpecError(f"input {place} must be a constant")
        return file.shape


def activated(here: Here, made: str) -> str:
    """The activation that an operator carries, as a step of its own."""
    code = here.options.get("FusedActivationFunction", 0)
    if code == 0:
        return made
    if code == 2:
        return compose.clip(here.draft, made, -1.0, 1.0)
    if code not in ACTIVATIONS:
        raise SpecError(f"a fused activation of code {code} is not known")
    return here.draft.add(ACTIVATIONS[code], made)


def operand(here: Here, place: int) -> str:
    """An input of an operator of several tensors, in the logical order of its output."""
    draft, name, file = here.draft, here.inputs[place], here.files[place]
    if not draft.tensors[name].constant or not here.image or file is None or file.shape is None:
        if here.image and len(draft.shape(name)) not in (0, 4):
            raise SpecError("an image and a tensor of another rank cannot be joined")
        return name
    stored = (1,) * (4 - len(file.shape)) + file.shape
    return draft.constant(logical(stored, True), file.values if file.values is not None and prod(stored) == 1 else None,
                          file.name or "constant")  # fmt: skip
