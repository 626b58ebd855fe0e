"""What a network costs, on one target or more: operators, a genome of a space, a named network, an uploaded model."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from host.api.access import READ, WRITE
from host.api.limits import check_batch
from host.api.priced import NetworkPrice, NetworkPrices, answered
from host.api.pricing import Question, as_list
from host.api.problems import answers
from host.api.schemas import GENOME, OP_KEY, TARGET_ID, TARGET_NAME
from host.api.service import Service, Serving
from host.api.spaces import known_space
from host.api.upload_requests import ACCEPTED, REFUSALS, parse_shapes, size_of_upload, whole
from ops_catalog import ops
from ops_catalog.networks import build_network
from ops_catalog.parse import Parsed
from ops_catalog.spec import Graph
from search.spaces.space import parse_genome

MOST_TARGETS = 16

Key = Annotated[str, Field(min_length=1, max_length=2000, examples=[OP_KEY])]
Name = Annotated[str, Field(min_length=1, max_length=400)]


class OperatorCount(BaseModel):
    """An operator, and how often it comes."""

    model_config = ConfigDict(extra="forbid")

    key: Key
    count: int = Field(default=1, ge=1, le=10_000)


class PredictionRequest(BaseModel):
    """What is to be priced, and where: one target or several; one of operators, a genome of a space, a network."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"target": TARGET_ID, "network": "mobilenet-v2"},
                {"target": TARGET_NAME, "operators": [{"key": OP_KEY, "count": 3}]},
                {"targets": [TARGET_ID], "space": "chamnet-mobile", "genome": GENOME, "estimate": True},
            ]
        },
    )

    target: Name | None = Field(default=None, description="id, name, or a part that only it has")
    targets: Annotated[list[Name], Field(min_length=1, max_length=MOST_TARGETS)] | None = None
    operators: Annotated[list[Key | OperatorCount], Field(min_length=1, max_length=10_000)] | None = Field(
        default=None, description="keys, or keys with how often each comes"
    )
    space: Annotated[str, Field(max_length=100)] | None = Field(default=None, examples=["chamnet-mobile"])
    genome: Annotated[str, Field(max_length=400)] | Annotated[list[int], Field(max_length=200)] | None = Field(
        default=None, description="values of the space's genes, a list or joined by `-`", examples=[GENOME]
    )
    network: Annotated[str, Field(max_length=100)] | None = Field(default=None, examples=["mobilenet-v2-0.5-128"])
    estimate: bool = Field(default=False, description="also price operators beyond the measured sizes")
    calibration: str = Field(default="", max_length=100, description="family of the calibration; the newest if empty")

    @model_validator(mode="after")
    def one_of_each(self) -> PredictionRequest:
        if (self.target is None) == (self.targets is None):
            raise ValueError("target or targets must be given, one of them")
        if (self.space is None) != (self.genome is None):
            raise ValueError("space and genome must be given together")
        if sum(given is not None for given in (self.operators, self.space, self.network)) != 1:
            raise ValueError("operators, space with genome, or network must be given, one of them")
        return self


router = APIRouter(prefix="/v1", tags=["predictions"], dependencies=[READ], responses=answers(404))


@router.post("/predictions")
def predict(body: PredictionRequest, service: Serving) -> NetworkPrice | NetworkPrices:
    """What a network or a list of operators costs; several targets are answered as `predictions`.

    Operators without a price are a problem (422) of type `missing-operators` with their keys (`missing`), the
    command that measures them (`measure_with`), and what is known (`partial`).
    """
    targets = [service.target(name) for name in body.targets or [body.target or ""]]
    question = Question(_graph(body, service), body.operators is not None, body.estimate, body.calibration)
    return answered(service, targets, question, Parsed(question.graph, (), ()), single=body.targets is None)


@router.post("/predictions/model", dependencies=[WRITE], responses=REFUSALS, openapi_extra={"requestBody": ACCEPTED})
async def predict_model(
    request: Request,
    response: Response,
    service: Serving,
    target: Annotated[list[Name], Query(min_length=1, max_length=MOST_TARGETS, description="id or name; repeat it")],
    shape: Annotated[
        list[str], Query(max_length=64, description="where the file leaves one open", examples=["input=1x3x224x224"])
    ] = [],  # noqa: B006
    name: Annotated[str, Query(max_length=200, description="of the network; by default the file's own")] = "",
    estimate: bool = False,
    calibration: Annotated[str, Query(max_length=100)] = "",
) -> NetworkPrice | NetworkPrices:
    """What an ONNX or TFLite model costs, its bytes being the body. Weights are not needed; no other file is read.

    Nodes that are not understood are a problem (422) that lists them as `unknown`, with the rest as `partial`.
    """
    size, shapes, times = size_of_upload(request), parse_shapes(shape), [perf_counter()]
    targets = [await run_in_threadpool(service.target, one) for one in target]
    parsed = await service.parser.parse(whole(request.stream()), size, shapes, name)
    times.append(perf_counter())
    question = Question(parsed.graph, False, estimate, calibration)
    answer = await run_in_threadpool(answered, service, targets, question, parsed, len(targets) == 1)
    read_ms, price_ms = (1e3 * (after - before) for before, after in pairwise([*times, perf_counter()]))
    response.headers["Server-Timing"] = f"read;dur={read_ms:.1f}, price;dur={price_ms:.1f}"
    return answer


def _graph(body: PredictionRequest, service: Service) -> Graph:
    """What a request asks about. Raises SpecError, Problem."""
    if body.space is not None:
        genome = parse_genome(body.genome) if isinstance(body.genome, str) else body.genome or ()
        return known_space(body.space).decode(genome)
    if body.network is not None:
        return build_network(body.network)
    counts: Counter[str] = Counter()
    for one in body.operators or ():
        counts[one if isinstance(one, str) else one.key] += 1 if isinstance(one, str) else one.count
    check_batch(counts.total(), service.config.max_batch, "operators, counts included")
    return as_list({ops.load_op(key): count for key, count in counts.items()}, "operators")
