"""The application: routers, what goes before them, its life, and the facts of its OpenAPI description."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from host.api import (
    access,
    accuracy,
    columns,
    coverage,
    devices,
    entries,
    exports,
    jobs,
    measurements,
    metrics,
    operators,
    pages,
    predictions,
    problems,
    spaces,
    targets,
    validation,
)
from host.api.limits import AllowedHosts, BodyLimit, SecurityHeaders
from host.api.observed import Measures, Observed
from host.api.service import Service, ServiceConfig

ROUTERS: tuple[APIRouter, ...] = (
    entries.router,
    targets.router,
    operators.router,
    measurements.router,
    exports.router,
    jobs.router,
    devices.router,
    spaces.router,
    accuracy.router,
    predictions.router,
    coverage.router,
    columns.router,
    validation.router,
    metrics.router,
)
"""Whoever adds a router adds its line."""

COMMON = (400, 401, 405, 413, 422, 429, 500, 503)
"""Statuses that any path may answer with."""

DESCRIPTION = """What operators and networks cost on devices that were measured, and what was found with it.

Latencies are nanoseconds (`latency_ns`), energies microjoules (`energy_uj`), times seconds since the epoch in UTC.
Reading is open on a loopback address without another name; writing, and everything else, needs a bearer token."""


class Health(BaseModel):
    """That the service answers; it tells nothing of what is stored."""

    status: Literal["ok"] = "ok"
    version: str = Field(examples=["0.1.0"])


def create_app(config: ServiceConfig, ending: Callable[[], bool] = lambda: False) -> FastAPI:
    """A service on a database, which is opened when it starts.

    Args:
        ending: whether the service was told to end, so that streams of events end.
    """
    registry = CollectorRegistry()
    middleware = _middleware(config, Measures(registry))
    app = FastAPI(
        title="ChamNet", version=_version(), description=DESCRIPTION, openapi_url=None, docs_url=None,
        redoc_url=None, redirect_slashes=False, lifespan=_life(config, ending), middleware=middleware,
        responses=problems.answers(*COMMON), generate_unique_id_function=_operation_id,
    )  # fmt: skip
    app.state.registry = registry
    problems.add_handlers(app)
    app.add_exception_handler(RequestValidationError, access.before(problems.on_invalid))
    for router in (_facts(app), *ROUTERS):
        app.include_router(router)
    app.state.methods = [(route.path_regex, route.methods or ()) for route in _routes()]
    pages.add_pages(app)
    app.openapi = _described(app, config.reads_openly)  # type: ignore[method-assign]
    return app


def _life(config: ServiceConfig, ending: Callable[[], bool]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Opens the database, keeps jobs going, and leaves those that run to themselves at the end."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(config)
        service.ending = ending
        await service.parser.start()
        keeper = _keep_jobs(service) if config.run_jobs else None
        try:
            yield
        finally:
            if keeper is not None:
                keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await keeper
            await service.close()

    return life


def _keep_jobs(service: Service) -> asyncio.Task[None]:
    from host.jobs import keep_jobs

    return asyncio.create_task(keep_jobs(service))


def _middleware(config: ServiceConfig, measures: Measures) -> list[Middleware]:
    """What a request passes before its router, outermost first."""
    cors = Middleware(
        CORSMiddleware, allow_origins=config.cors, allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "If-None-Match"], expose_headers=["ETag", "Location"],
    )  # fmt: skip
    return [
        Middleware(Observed, measures=measures),
        Middleware(SecurityHeaders),
        Middleware(AllowedHosts, host=config.host, loopback=config.loopback, allowed=config.allowed_hosts),
        *([cors] if config.cors else []),
        Middleware(access.Access, reads_openly=config.reads_openly, rate=config.rate),
        Middleware(BodyLimit, upload_mb=config.max_upload_mb),
    ]


def _facts(app: FastAPI) -> APIRouter:
    """What tells about the service itself."""
    router = APIRouter(prefix=access.UNDER, tags=["service"])

    @router.get("/health")
    async def health() -> Health:
        """Whether the service answers."""
        return Health(version=app.version)

    @router.get("/openapi.json", include_in_schema=False, dependencies=[access.READ])
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return router


def _described(app: FastAPI, reads_openly: bool) -> Callable[[], dict[str, Any]]:
    """The OpenAPI description with the problem document, and with which paths are open."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            document = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {**document.pop("$defs", {}), "ProblemDocument": document}
            for model in BaseModel.__subclasses__():
                _put_examples(schemas.get(model.__name__), model)
            schema["components"]["securitySchemes"] = {"bearer": access.SCHEME}
            _put_security(schema["paths"], reads_openly)
        return app.openapi_schema or {}

    return described


def _put_examples(schema: dict[str, Any] | None, model: type[BaseModel]) -> None:
    """Examples as they were written: on its way into a description, each null of theirs was dropped."""
    extra = model.model_config.get("json_schema_extra")
    if schema is not None and isinstance(extra, dict) and model.__module__.startswith("host.api."):
        schema |= extra


def _routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def _put_security(paths: dict[str, Any], reads_openly: bool) -> None:
    """Which paths need a token; where reading is open it may be left out where nothing is written."""
    for route in _routes():
        writes = access.WRITE in route.dependencies
        for method in route.methods or ():
            operation = paths.get(route.path_format, {}).get(method.lower(), {})
            operation["security"] = [{"bearer": []}] if writes or not reads_openly else [{}, {"bearer": []}]
            if writes:
                operation["responses"] |= {str(status): told for status, told in problems.answers(403).items()}


def _operation_id(route: APIRoute) -> str:
    return route.name


def _version() -> str:
    try:
        return version("chamnet")
    except PackageNotFoundError:
        return "unknown"
