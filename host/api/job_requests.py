"""What a job can be asked for, and the command line that it is: every option is one word, ``--name=value``.

No text of a request becomes an option, a path, a command or an address: names are those of tables, or looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from host.api.problems import Problem
from host.api.schemas import OP_KEY, TARGET_ID, Dtype
from host.engines import ENGINES
from host.job_runner import MOST_OPERATORS, OPERATORS
from lut_db.records import Target
from ops_catalog import ops
from ops_catalog.networks import build_network
from ops_catalog.spec import OpSpec
from search.predictors import PREDICTORS
from search.spaces import SPACES, space_named

SpaceName = Literal["chamnet-mobile", "chamnet-res", "ofa-mobile", "mbconv", "macro"]
EngineName = Literal[
    "onnxruntime", "litert", "openvino", "torch", "fake", "torch-cuda", "onnxruntime-cuda", "onnxruntime-tensorrt"
]  # fmt: skip
PredictorName = Literal["gp", "gradient-boosting", "ridge"]
assert set(get_args(SpaceName)) == set(SPACES)
assert set(get_args(EngineName)) == {name for name, use in ENGINES.items() if not use.binary}
assert set(get_args(PredictorName)) == set(PREDICTORS)

LARGEST_OPERATOR_BYTES = 1 << 30
"""Inputs, output and weights of an operator to measure: more is a mistake, and would take the computer down."""

Line = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31, description="of everything random")]
Choices = Annotated[list[Annotated[int, Field(ge=0, le=1_000_000)]], Field(min_length=1, max_length=200)]
STRICT = ConfigDict(extra="forbid")


class TargetLimits(BaseModel):
    """A table, and what a network may cost by it."""

    model_config = STRICT

    target: Line = Field(min_length=1, description="its `id` or name", examples=[TARGET_ID])
    latency_ms: Positive | None = None
    energy_mj: Positive | None = None


class Sweep(BaseModel):
    """Latency limits of the first target, one after the other, evenly spaced."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    low_ms: Positive = Field(alias="from", examples=[5.0])
    high_ms: Positive = Field(alias="to", examples=[50.0])
    count: int = Field(ge=2, le=1000)

    @model_validator(mode="after")
    def _goes_up(self) -> Sweep:
        if self.low_ms >= self.high_ms:
            raise ValueError(f"'from' must be below 'to', but got {self.low_ms:g} and {self.high_ms:g}")
        return self


class SearchRequest(BaseModel):
    """What to search for; `chamnet search` of the command line."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"space": "mbconv", "targets": [{"target": TARGET_ID, "latency_ms": 8.0}], "interpolate": True},
                {"space": "macro", "macs_m": 60.0},
            ]
        },
    )

    space: SpaceName
    targets: list[TargetLimits] = Field(default=[], max_length=8)
    sweep: Sweep | None = None
    macs_m: Positive | None = Field(default=None, description="most million multiply-accumulates")
    params_m: Positive | None = Field(default=None, description="most million parameters")
    memory_mb: Positive | None = Field(default=None, description="most megabytes of activations alive at a time")
    fix: dict[str, Choices] = Field(default={}, max_length=100, description="genes that are to have these values only")
    risk: float | None = Field(default=None, gt=0, le=0.5, description="probability of exceeding a latency limit")
    predictor: PredictorName = "gp"
    dataset: Line = Field(default="", description="use accuracies of this data set only")
    recipe: Line = Field(default="", description="predict accuracy for this training recipe")
    population: int = Field(default=500, ge=20, le=5000)
    generations: int = Field(default=120, ge=1, le=1000)
    interpolate: bool = Field(default=False, description="price operators that were never measured")
    emulated: bool = Field(default=False, description="search with the table of an emulated phone, too")
    seed: Seed = 0
    verify: int = Field(default=0, ge=0, le=100, description="measure so many networks on the first target's device")

    @model_validator(mode="after")
    def _can_be_meant(self) -> SearchRequest:
        bounds = [value for one in self.targets for value in (one.latency_ms, one.energy_mj)]
        if all(v is None for v in (*bounds, self.sweep, self.macs_m, self.params_m, self.memory_mb)):
            raise ValueError("something must be limited, but got nothing; give latency_ms of a target, or macs_m")
        if (self.sweep or self.verify) and not self.targets:
            raise ValueError("sweep and verify must have a target, but targets is empty")
        if self.sweep and self.targets[0].latency_ms is not None:
            raise ValueError("one of sweep and latency_ms of the first target must be given, but got both")
        return self


class ProfileRequest(BaseModel):
    """What to measure: one of `space`, `networks` and `operators`; `chamnet profile` of the command line."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"device": "local-cpu", "engine": "litert", "networks": ["mobilenet-v2"]},
                {"device": "local-cpu", "space": "mbconv", "budget_s": 600},
                {"device": "local-cpu", "operators": [OP_KEY]},
            ]
        },
    )

    device: Line = Field(min_length=1, description="local-cpu, a known device, or a connected phone's serial")
    engine: EngineName = "litert"
    dtype: Dtype = "float32"
    threads: int = Field(default=1, ge=1, le=256)
    accelerator: Literal["cpu"] = "cpu"
    space: SpaceName | None = None
    random_networks: int | None = Field(default=None, ge=1, le=10_000, description="with space: of so many networks")
    networks: list[Annotated[str, Field(max_length=64)]] = Field(default=[], max_length=64)
    operators: list[Annotated[str, Field(max_length=1000)]] = Field(default=[], max_length=MOST_OPERATORS)
    budget_s: float | None = Field(default=None, ge=1, le=604_800, allow_inf_nan=False, description="with space: stop")
    fraction: float | None = Field(default=None, gt=0, le=1, description="with space: most of its operators")
    seed: Seed = 0

    @model_validator(mode="after")
    def _can_be_meant(self) -> ProfileRequest:
        if sum(map(bool, (self.space, self.networks, self.operators))) != 1:
            raise ValueError("one of space, networks and operators must be given")
        if (self.random_networks or self.budget_s or self.fraction) and self.space is None:
            raise ValueError("random_networks, budget_s and fraction must come with a space")
        if self.random_networks and (self.budget_s or self.fraction):
            raise ValueError("a budget must be for a whole space, but got random_networks with it")
        return self


def search_arguments(request: SearchRequest, targets: Sequence[Target]) -> list[str]:
    """The command line of a search.

    Args:
        targets: those that the request names, in its order.

    Raises:
        SpecError: the space has no such gene or value.
    """
    space_named(request.space).narrowed(request.fix)
    sweep = request.sweep
    given = {
        "limits": sweep and f"{sweep.low_ms!r}:{sweep.high_ms!r}:{sweep.count}",
        "macs-m": request.macs_m, "params-m": request.params_m, "memory-mb": request.memory_mb, "risk": request.risk,
        "predictor": request.predictor, "dataset": request.dataset or None, "recipe": request.recipe or None,
        "population": request.population, "generations": request.generations, "seed": request.seed,
        "verify": request.verify or None,
    }  # fmt: skip
    return [
        "search", "--json", "--whole", f"--space={request.space}", *_target_words(request, targets), *_words(given),
        *(f"--fix={gene}={','.join(map(str, values))}" for gene, values in request.fix.items()),
        *(["--interpolate"] if request.interpolate else []), *(["--emulated"] if request.emulated else []),
    ]  # fmt: skip


def profile_arguments(request: ProfileRequest, device: str) -> list[str]:
    """The command line of a profile.

    Args:
        device: what the device is reached by.
    """
    given = {
        "device": device, "engine": request.engine, "dtype": request.dtype, "threads": request.threads,
        "accelerator": request.accelerator, "seed": request.seed, "space": request.space,
        "networks": request.random_networks, "network": ",".join(request.networks) or None,
        "ops": OPERATORS if request.operators else None,
        "budget": None if request.budget_s is None else f"{request.budget_s:.3f}s", "fraction": request.fraction,
    }  # fmt: skip
    return ["profile", "--json", *_words(given)]


def check_networks(names: Sequence[str]) -> None:
    """Raises SpecError for a name that is no network's, Problem for a network that no computer should try."""
    for name in names:
        for op in build_network(name).operators:
            _check_size(op)


def canonical_operators(keys: Sequence[str]) -> list[str]:
    """Keys as they are written in tables, each once.

    Raises:
        SpecError: a key that is none.
        Problem: an operator that no computer should try.
    """
    found = dict.fromkeys(map(ops.load_op, keys))
    for op in found:
        _check_size(op)
    return [op.key for op in found]


def _check_size(op: OpSpec) -> None:
    if ops.bytes_moved(op) > LARGEST_OPERATOR_BYTES:
        detail = f"an operator must move at most {LARGEST_OPERATOR_BYTES >> 20} MiB, but {op.key[:200]} moves more"
        raise Problem(422, "Operator too large", f"{detail}; leave it out", "operator-too-large")


def _target_words(request: SearchRequest, targets: Sequence[Target]) -> Iterator[str]:
    for target, limits in zip(targets, request.targets, strict=True):
        yield f"--target={target.key}"
        for name in ("latency_ms", "energy_mj"):
            value = getattr(limits, name)
            if value is not None:
                yield f"--limit={target.key}:{name}={value!r}"


def _words(given: Mapping[str, object]) -> Iterator[str]:
    """Options of one word each, those that are None left out."""
    return (f"--{name}={value}" for name, value in given.items() if value is not None)
