"""Which tensors of a TFLite file are images, stored N x H x W x C, and which are stored in logical order.

The file does not say. Convolutions, pools and resizes read and make images; what adds or activates keeps what it gets;
where nothing tells, a tensor next to a transpose, reshape, softmax or matrix product is none, and any other is one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ops_catalog.parse.nodes import FileNode
from ops_catalog.parse.tflite_file import FileTensor

TO_IMAGE, TO_PLAIN = (0, 2, 3, 1), (0, 3, 1, 2)
"""Of each stored side the logical one, and the reverse."""

WINDOWS = {
    "CONV_2D": (0,), "DEPTHWISE_CONV_2D": (0,), "AVERAGE_POOL_2D": (0,), "MAX_POOL_2D": (0,), "L2_POOL_2D": (0,),
    "RESIZE_BILINEAR": (0,), "RESIZE_NEAREST_NEIGHBOR": (0,), "TRANSPOSE_CONV": (2,), "SPACE_TO_DEPTH": (0,),
    "DEPTH_TO_SPACE": (0,),
}  # fmt: skip
"""Which input is an image; the output is one too."""
ENDS = frozenset({"RESHAPE", "TRANSPOSE", "BATCH_MATMUL", "SQUEEZE", "EXPAND_DIMS"})
"""What says nothing of its input from its output."""
PLAIN = ENDS | {"SOFTMAX"}
FIRST_ONLY = frozenset({"PAD", "PADV2", "MIRROR_PAD", "PRELU"})
ROUND_IMAGES = frozenset({(1, 2), (2, 1)})


def find_images(tensors: Sequence[FileTensor], nodes: Sequence[FileNode]) -> list[bool]:
    """Of each tensor whether it is stored as an image."""
    groups = _Groups(len(tensors))
    images: list[int] = []
    plain: list[int] = []
    for node in nodes:
        inputs, outputs = _ranked(tensors, node.inputs), _ranked(tensors, node.outputs)
        if node.type in WINDOWS:
            images += [int(node.inputs[place]) for place in WINDOWS[node.type] if place < len(node.inputs)]
            images += outputs
        elif node.type == "MEAN":
            images += inputs[:1] if _over_images(tensors, node) else []
            plain += [] if _over_images(tensors, node) else inputs[:1]
            groups.join([*inputs[:1], *outputs])
        elif node.type not in ENDS:
            groups.join([*(inputs[:1] if node.type in FIRST_ONLY else inputs), *outputs])
        if node.type in PLAIN:
            plain += [*inputs, *outputs]
    sure = {groups.root(index) for index in images if index < len(tensors)}
    unlikely = {groups.root(index) for index in plain}
    return [
        tensor.shape is not None
        and len(tensor.shape) == 4
        and (groups.root(index) in sure or groups.root(index) not in unlikely)
        for index, tensor in enumerate(tensors)
    ]


def logical(shape: tuple[int, ...], image: bool) -> tuple[int, ...]:
    """The logical shape of a tensor that is stored with this one."""
    return tuple(shape[axis] for axis in TO_PLAIN) if image and len(shape) == 4 else shape


def _ranked(tensors: Sequence[FileTensor], names: Sequence[str]) -> list[int]:
    found = [int(name) for name in names if name and int(name) < len(tensors)]
    return [index for index in found if len(tensors[index].shape or ()) == 4]


def _over_images(tensors: Sequence[FileTensor], node: FileNode) -> bool:
    if len(node.inputs) < 2 or not node.inputs[1] or int(node.inputs[1]) >= len(tensors):
        return False
    values = tensors[int(node.inputs[1])].values
    return values is not None and tuple(int(axis) % 4 for axis in values.reshape(-1)) in ROUND_IMAGES


class _Groups:
    """Tensors that must be stored alike: a union-find."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index

    def join(self, members: Sequence[int]) -> None:
        for member in members[1:]:
            self._parents[self.root(member)] = self.root(members[0])
