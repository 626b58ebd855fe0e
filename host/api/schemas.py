"""What several routers speak of, as pydantic models; what one router alone speaks of stands beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from ops_catalog.spec import DTYPE_BYTES

TARGET_ID = "0d6fbd4a2ef1"
TARGET_NAME = "local-cpu/litert-2.3.0/cpu/float32/t1"
OP_KEY = "conv2d(1x96x14x14;activation=relu6;kernel=1x1;out_channels=480;float32)"
GENOME = "224-2-32-1-3-16-6-3-24-6-5-40"
EPOCH_S = 1_764_000_000.0

TargetId = Annotated[
    str,
    Path(max_length=400, description="the target's `id`; its name, or a part that only it has, is taken, too",
         examples=[TARGET_ID]),
]  # fmt: skip
OpKey = Annotated[
    str, Query(min_length=1, max_length=4000, description="key of an operator or native operator", examples=[OP_KEY])
]
Dtype = Literal["float32", "float16", "int8"]
assert set(DTYPE_BYTES) == {"float32", "float16", "bfloat16", "int8"}


def example(**values: Any) -> ConfigDict:
    """The configuration of a model with one example of it."""
    return ConfigDict(json_schema_extra={"examples": [values]})


_COUNTS = {"operators": 120, "measurements": 240, "doubtful": 3, "quarantined": 0, "networks": 12}


class Counts(BaseModel):
    """How much a table holds."""

    model_config = example(**_COUNTS)

    operators: int = Field(description="native operators with a latency")
    measurements: int
    doubtful: int = Field(description="those of them whose every measurement has a disqualifying doubt")
    quarantined: int = Field(description="operators that cannot be measured")
    networks: int = Field(description="measurements of whole networks")


class TargetRow(BaseModel):
    """A table: what its numbers are valid for, and how much it holds. Two targets never mix."""

    model_config = example(
        id=TARGET_ID, name=TARGET_NAME, device="local-cpu", engine="litert", engine_version="2.3.0", accelerator="cpu",
        dtype="float32", threads=1, cpus=[1], isa="avx2", options={}, source="measured", newest_at=EPOCH_S,
        counts=_COUNTS,
    )  # fmt: skip

    id: str = Field(description="what it is called in URLs; the same in every database")
    name: str
    device: str
    engine: str
    engine_version: str
    accelerator: str
    dtype: str
    threads: int
    cpus: list[int] = Field(description="processors that it is pinned to")
    isa: str = Field(description="instruction-set features that the engine can use")
    options: dict[str, str] = Field(description="options of the engine that decide speed and are not the usual ones")
    source: str = Field(description="measured, emulated, simulated or imported: what its rows are")
    counts: Counts
    newest_at: float | None = Field(description="when it was last measured; seconds since the epoch, UTC")
