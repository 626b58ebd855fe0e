"""Search spaces: their genes, and any network of theirs as layers or as a model file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from host.api.access import READ
from host.api.problems import Problem, answers
from host.api.schemas import Dtype, example
from ops_catalog import ops
from ops_catalog.export import export_graph
from ops_catalog.spec import Graph, Node, SpecError
from search.spaces import SPACES, space_named
from search.spaces.space import SearchSpace, format_genome, parse_genome

router = APIRouter(prefix="/v1", tags=["spaces"], dependencies=[READ], responses=answers(404))

SpaceName = Annotated[str, Path(max_length=100, examples=["macro"])]
GenomeText = Annotated[
    str, Path(max_length=400, description="values of the genes, joined by `-`", examples=["1-1-2-1-1-1-2-0"])
]
BINARY = "application/octet-stream"
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}, "description": "the file"}
}


class SpaceRow(BaseModel):
    """A search space in short."""

    model_config = example(name="macro", genes=8, networks=6561.0)

    name: str
    genes: int
    networks: float = Field(description="number of genomes on its steps")


class SpaceList(BaseModel):
    spaces: list[SpaceRow]


class GeneRow(BaseModel):
    """One choice that a genome makes."""

    model_config = example(name="resolution", choices=[192, 224, 256], between=False)

    name: str
    choices: list[int] = Field(description="ascending")
    between: bool = Field(description="whether values between the choices are networks, too")


class SpaceDetail(BaseModel):
    """A search space with its genes, in the order of a genome."""

    name: str = Field(examples=["macro"])
    networks: float = Field(examples=[6561.0])
    genes: list[GeneRow]
    smallest: str = Field(description="a genome: the first choice of every gene", examples=["0-0-0-0-0-0-0-0"])


class Layer(BaseModel):
    """One operator of a network."""

    model_config = example(
        key="relu(1x8x4x4;float32)",
        type="relu",
        inputs=["t0"],
        output="t1",
        output_shape=[1, 8, 4, 4],
        macs=0,
        params=0,
    )

    key: str
    type: str
    inputs: list[str] = Field(description="names of the tensors it reads")
    output: str = Field(description="name of the tensor it makes")
    output_shape: list[int] = Field(description="N x C x H x W for images")
    macs: int
    params: int


class NetworkDetail(BaseModel):
    """A network of a space, layer by layer."""

    space: str = Field(examples=["macro"])
    genome: str
    dtype: str = Field(examples=["float32"])
    macs: int = Field(examples=[69_000_000])
    params: int = Field(examples=[270_000])
    inputs: dict[str, list[int]] = Field(description="shapes by name", examples=[{"x0": [1, 3, 32, 32]}])
    outputs: list[str] = Field(examples=[["t14"]])
    layers: list[Layer]


@router.get("/spaces")
def list_spaces() -> SpaceList:
    """The search spaces that ship."""
    return SpaceList(spaces=[_row(space_named(name)) for name in SPACES])


@router.get("/spaces/{name}")
def get_space(name: SpaceName) -> SpaceDetail:
    """A search space with its genes."""
    space = known_space(name)
    genes = [GeneRow(name=gene.name, choices=list(gene.choices), between=gene.between) for gene in space.genes]
    smallest = format_genome([gene.choices[0] for gene in space.genes])
    return SpaceDetail(name=name, networks=float(space.size), genes=genes, smallest=smallest)


@router.get("/spaces/{name}/networks/{genome}")
def get_network(name: SpaceName, genome: GenomeText, dtype: Dtype = "float32") -> NetworkDetail:
    """A network of a space, layer by layer."""
    graph = _network(name, genome, dtype)
    layers = [_layer(node) for node in graph.nodes]
    return NetworkDetail(
        space=name, genome=genome, dtype=graph.dtype, layers=layers, outputs=list(graph.outputs),
        inputs={tensor: list(spec.shape) for tensor, spec in graph.inputs},
        macs=sum(layer.macs for layer in layers), params=sum(layer.params for layer in layers),
    )  # fmt: skip


@router.get("/spaces/{name}/networks/{genome}/model", response_class=Response, responses=_FILE)
def get_network_model(
    name: SpaceName, genome: GenomeText, dtype: Dtype = "float32",
    format: Annotated[Literal["onnx", "tflite"], Query(description="kind of file")] = "onnx",
) -> Response:  # fmt: skip
    """A network as a model file, with weights at random: for measuring, and for training."""
    graph = _network(name, genome, dtype)
    file = f"{name}-{genome}-{dtype}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Response(export_graph(graph, format), media_type=BINARY, headers=headers)


def known_space(name: str) -> SearchSpace:
    """A space that ships. Raises Problem: no other name, and no file, is ever opened."""
    if name not in SPACES:
        detail = f"a space must be one of {', '.join(SPACES)}, but got {name!r}"
        raise Problem(404, "Unknown space", detail, "unknown-space", {"known": list(SPACES)})
    return space_named(name)


def _network(space: str, genome: str, dtype: str) -> Graph:
    """Raises Problem where a space has no such network."""
    try:
        return known_space(space).decode(parse_genome(genome), dtype)
    except SpecError as error:
        raise Problem(404, "Unknown network", str(error), "unknown-network") from None


def _row(space: SearchSpace) -> SpaceRow:
    return SpaceRow(name=space.name, genes=len(space.genes), networks=float(space.size))


def _layer(node: Node) -> Layer:
    return Layer(
        key=node.op.key, type=node.op.type, inputs=list(node.inputs), output=node.output,
        output_shape=list(ops.output(node.op).shape), macs=ops.macs(node.op), params=ops.params(node.op),
    )  # fmt: skip
