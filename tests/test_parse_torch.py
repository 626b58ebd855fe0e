"""Networks that PyTorch exports (torch.onnx) parse as the engines fuse them (chamnet[train])."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections import Counter
from typing import Any

import pytest

from ops_catalog import ops
from ops_catalog.parse import Parsed, parse_model

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install chamnet[train]")
nn = torch.nn

WAYS = ("script", "dynamo")
IMAGE = (1, 3, 32, 32)


def exported(module: Any, shape: tuple[int, ...], way: str) -> bytes:
    if way == "dynamo" and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("onnxscript is not installed")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.zeros(shape),), file, dynamo=way == "dynamo")
    return file.getvalue()


def parsed_of(module: Any, shape: tuple[int, ...], way: str) -> Parsed:
    parsed = parse_model(exported(module, shape, way))
    assert not parsed.unknown
    return parsed


def kinds(parsed: Parsed) -> Counter[str]:
    return Counter(op.type for op in parsed.graph.operators)


def layer_macs(module: Any, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and linear layers, counted while PyTorch runs."""
    counted = 0

    def count(layer: Any, _: Any, made: Any) -> None:
        nonlocal counted
        counted += made.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        module.eval()(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return counted


def conv_bn(enter: int, leave: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Any = None) -> Any:
    conv = nn.Conv2d(enter, leave, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(leave), *([act] if act else []))


class Inverted(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, enter: int, leave: int, stride: int) -> None:
        super().__init__()
        self.same = stride == 1 and enter == leave
        self.body = nn.Sequential(
            conv_bn(enter, 4 * enter, 1, act=nn.ReLU6()),
            conv_bn(4 * enter, 4 * enter, 3, stride, 4 * enter, nn.ReLU6()),
            conv_bn(4 * enter, leave, 1),
        )

    def forward(self, x: Any) -> Any:
        return x + self.body(x) if self.same else self.body(x)


class Residual(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, enter: int, leave: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(enter, leave, 3, stride, act=nn.ReLU()), conv_bn(leave, leave))
        self.short = conv_bn(enter, leave, 1, stride) if stride > 1 or enter != leave else nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.short(x))


class Squeeze(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Any) -> Any:
        return x * self.gate(x)


class Block(nn.Module):  # type: ignore[name-defined,misc]
    """A transformer's, written out."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        batch, count, width = x.shape
        y = self.norms[0](x)
        q, k, v = (part(y).reshape(batch, count, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = torch.softmax(q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5, -1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(batch, count, width))
        return x + self.mlp(self.norms[1](x))


class Upsampling(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self) -> None:
        super().__init__()
        self.down = conv_bn(3, 8, 3, 2, act=nn.SiLU())
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv2d(11, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.last(torch.cat([x, self.up(self.down(x))], 1))


@pytest.mark.parametrize("way", WAYS)
def test_a_mobilenet_parses_to_three_convolutions_a_block(way: str) -> None:
    module = nn.Sequential(
        conv_bn(3, 8, 3, 2, act=nn.ReLU6()), Inverted(8, 8, 1), Inverted(8, 16, 2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 10),
    )  # fmt: skip
    parsed = parsed_of(module, IMAGE, way)
    assert kinds(parsed) == Counter(conv2d=5, depthwise_conv2d=2, global_average_pool=1, reshape=1, linear=1)
    assert sum(len(op.inputs) == 2 for op in parsed.graph.operators) == 1
    assert sum(map(ops.macs, parsed.graph.operators)) == layer_macs(module, IMAGE)


@pytest.mark.parametrize("way", WAYS)
def test_a_resnet_parses_to_convolutions_with_residuals(way: str) -> None:
    module = nn.Sequential(
        conv_bn(3, 8, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1), Residual(8, 8, 1), Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    parsed = parsed_of(module, IMAGE, way)
    assert kinds(parsed) == Counter(conv2d=6, max_pool=1, global_average_pool=1, reshape=1, linear=1)
    residuals = [op for op in parsed.graph.operators if len(op.inputs) == 2]
    assert [dict(op.attributes)["activation"] for op in residuals] == ["relu", "relu"]
    assert sum(map(ops.macs, parsed.graph.operators)) == layer_macs(module, IMAGE)


@pytest.mark.parametrize("way", WAYS)
def test_squeeze_excite_and_hard_swish_are_recognised(way: str) -> None:
    module = nn.Sequential(conv_bn(3, 8, act=nn.Hardswish()), Squeeze(8), conv_bn(8, 8, 1, act=nn.SiLU()))
    parsed = parsed_of(module, IMAGE, way)
    assert [dict(op.attributes).get("activation") for op in parsed.graph.operators] == [
        "hard_swish", None, "relu", "hard_sigmoid", None, "silu",
    ]  # fmt: skip
    assert kinds(parsed) == Counter(conv2d=4, global_average_pool=1, mul=1)


@pytest.mark.parametrize("way", WAYS)
def test_a_transformer_block_parses(way: str) -> None:
    found = kinds(parsed_of(Block(), (1, 10, 32), way))
    assert {name: found[name] for name in ("layer_norm", "linear", "matmul", "softmax", "add", "mul")} == {
        "layer_norm": 2, "linear": 6, "matmul": 2, "softmax": 1, "add": 2, "mul": 0,
    }  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_an_upsampling_network_parses(way: str) -> None:
    parsed = parsed_of(Upsampling(), IMAGE, way)
    assert kinds(parsed) == Counter(conv2d=2, resize=1, concat=1)
