"""A network while it is parsed: steps in our own words, each checked as it is added, and rewritten until they fit.

A step is an operator of ``ops.OPS`` or one of INTERIM, which exist only until a pattern takes them up. Activations
are steps of their own here; ``fuse`` joins them to what they follow. Attributes that begin with "_" are remarks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.ops.contract import Array
from ops_catalog.parse.result import UnknownNode, check_shape
from ops_catalog.spec import OpSpec, SpecError, TensorSpec

Shape = tuple[int, ...]

BROADCAST = frozenset({"sub", "div", "pow", "squared_difference"})
SAME = frozenset({"sqrt", "rsqrt", "reciprocal", "erf", "tanh", "scale_shift", "prelu"})
INTERIM = BROADCAST | SAME | {"mean"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the draft.

    Attributes:
        shape: logical; None where it is not known.
        values: of a small constant; None otherwise.
    """

    shape: Shape | None
    constant: bool = False
    values: Array | None = None

    @property
    def scalar(self) -> float | None:
        """The value of a constant of one element."""
        if self.values is None or self.values.size != 1 or self.values.dtype.kind not in "fiub":
            return None
        return float(self.values.reshape(()))


@dataclass(frozen=True, slots=True)
class Step:
    """An operator of the draft; ``origin`` is the name and type of the node it comes from."""

    type: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    origin: tuple[str, str]


@dataclass(slots=True)
class Draft:
    """Steps by their output, in order, with who reads what.

    Attributes:
        labels: names in the file of the draft's tensors.
        needed: tensors that are outputs or that unknown nodes read, how often.
        low: whether a tensor's stored integers begin at zero: True where it cannot be negative; absent if not int8.
        six: tensors whose range is 0 to 6.
        folds_constants: whether the engines of this format fold constant factors and offsets into what is before.
    """

    name: str
    folds_constants: bool = False
    dtype: str = "float32"
    tensors: dict[str, Tensor] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    readers: dict[str, dict[str, int]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    needed: Counter[str] = field(default_factory=Counter)
    outputs: list[str] = field(default_factory=list)
    unknown: list[UnknownNode] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    low: dict[str, bool] = field(default_factory=dict)
    six: set[str] = field(default_factory=set)
    origin: tuple[str, str] = ("", "")

    def enter(self, label: str, shape: Shape | None) -> str:
        """A tensor that no step makes."""
        name = f"%{len(self.tensors)}"
        self.tensors[name] = Tensor(shape)
        self.labels[name] = label
        return name

    def constant(self, shape: Shape, values: Array | None = None, label: str = "constant") -> str:
        name = f"%{len(self.tensors)}"
        self.tensors[name] = Tensor(shape, True, values)
        self.labels[name] = label
        return name

    def number(self, value: float) -> str:
        return self.constant((), np.array(value, np.float32))

    def shape(self, name: str) -> Shape:
        """Raises SpecError where it is not known."""
        shape = self.tensors[name].shape
        if shape is None:
            raise SpecError(f"the shape of {self.labels.get(name, name)!r} is not known; give it with --shape")
        return shape

    def add(self, step_type: str, *inputs: str, **attributes: Any) -> str:
        """Appends a step; returns the name of its output. Raises SpecError where it does not fit."""
        shape = self._output(step_type, inputs, attributes)
        name = f"%{len(self.tensors)}"
        self.tensors[name] = Tensor(shape)
        self._put(Step(step_type, inputs, name, attributes, self.origin))
        return name

    def note(self, text: str) -> None:
        self.notes[text] += 1

    def roll_back(self, steps: int) -> None:
        """Forgets all but the first so many steps."""
        while len(self.steps) > steps:
            self._take(next(reversed(self.steps.values())))

    def maker(self, name: str, *types: str) -> Step | None:
        """The step that makes a tensor, if it is of one of the types; of any, where none is given."""
        step = self.steps.get(name)
        return step if step is not None and (not types or step.type in types) else None

    def sole(self, name: str) -> bool:
        """Whether a tensor is read exactly once."""
        readers = self.readers.get(name, {})
        return not self.needed[name] and len(readers) == 1 and next(iter(readers.values())) == 1

    def rewrite(self, step: Step, step_type: str, inputs: Iterable[str], attributes: dict[str, Any]) -> bool:
        """Puts another step in the place of one, and drops what nobody reads any more; False where it does not fit."""
        new = Step(step_type, tuple(inputs), step.output, attributes, step.origin)
        try:
            if self._output(new.type, new.inputs, new.attributes) != self.tensors[step.output].shape:
                return False
        except SpecError:
            return False
        self._unread(step)
        self._put(new)
        self._drop(step.inputs)
        return True

    def bypass(self, step: Step, source: str) -> None:
        """Lets the readers of a step read ``source`` instead."""
        for reader in list(self.readers.pop(step.output, {})):
            old = self.steps[reader]
            self._unread(old)
            self._put(replace(old, inputs=tuple(source if name == step.output else name for name in old.inputs)))
        self.needed[source] += self.needed.pop(step.output, 0)
        self.outputs = [source if name == step.output else name for name in self.outputs]
        self._take(step)
        self._drop(step.inputs)

    def drop_unread(self) -> None:
        """Removes the steps whose results nobody needs."""
        for step in reversed(list(self.steps.values())):
            if step.output in self.steps:
                self._drop([step.output])

    def op(self, step_type: str, inputs: Iterable[str], attributes: dict[str, Any], dtype: str = "float32") -> OpSpec:
        """The operator of a step. Raises SpecError where it cannot exist."""
        tensors = [TensorSpec(shape, dtype) for shape in self._shapes(step_type, tuple(inputs))]
        return ops.make_op(step_type, *tensors, **{name: value for name, value in attributes.items() if name[0] != "_"})

    def _shapes(self, step_type: str, inputs: tuple[str, ...]) -> list[Shape]:
        """Shapes of inputs; a constant of fewer sides than the other tensor gets ones in front."""
        shapes = [self.shape(name) for name in inputs]
        rank = max(map(len, shapes), default=0)
        if step_type not in ("add", "mul"):
            return shapes
        return [
            (1,) * (rank - len(shape)) + shape if self.tensors[name].constant else shape
            for name, shape in zip(inputs, shapes, strict=True)
        ]

    def _output(self, step_type: str, inputs: tuple[str, ...], attributes: dict[str, Any]) -> Shape:
        if step_type in INTERIM:
            shape = self._interim(step_type, inputs, attributes)
        else:
            shape = tuple(int(side) for side in ops.output(self.op(step_type, inputs, attributes)).shape)
        check_shape(shape, "an output")
        return shape

    def _interim(self, step_type: str, inputs: tuple[str, ...], attributes: dict[str, Any]) -> Shape:
        shapes = [self.shape(name) for name in inputs]
        if step_type in BROADCAST:
            return tuple(map(int, np.broadcast_shapes(*shapes)))
        if step_type != "mean":
            return shapes[0]
        axes, keep = attributes["axes"], attributes["keep"]
        sides = [1 if axis in axes else side for axis, side in enumerate(shapes[0])]
        return tuple(side for axis, side in enumerate(sides) if keep or axis not in axes)

    def _put(self, step: Step) -> None:
        self.steps[step.output] = step
        for name in step.inputs:
            readers = self.readers.setdefault(name, {})
            readers[step.output] = readers.get(step.output, 0) + 1

    def _unread(self, step: Step) -> None:
        for name in step.inputs:
            self.readers.get(name, {}).pop(step.output, None)

    def _take(self, step: Step) -> None:
        self._unread(step)
        del self.steps[step.output]

    def _drop(self, names: Iterable[str]) -> None:
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            step = self.steps.get(name)
            if step is not None and not self.needed[name] and not self.readers.get(name):
                self._take(step)
                waiting += step.inputs
