"""What Prometheus is told: requests (``observed``), jobs by kind and state, units in use; and who asks for health."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel, Field

from host.api import access
from host.api.devices import is_alive
from host.api.service import Serving
from host.lease import SWEEP
from lut_db.jobs import KINDS
from lut_db.store import LutStore

OPEN_STATES = ("queued", "running")

router = APIRouter(prefix=access.UNDER, tags=["service"])


class Ready(BaseModel):
    """That requests can be answered from the database."""

    status: Literal["ready"] = Field(default="ready", examples=["ready"])


class StoreGauges:
    """What a scrape asks the database."""

    def __init__(self, store: LutStore) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        jobs = GaugeMetricFamily("chamnet_jobs", "Jobs that wait or run", labels=["kind", "state"])
        for kind in KINDS:
            for state in OPEN_STATES:
                jobs.add_metric([kind, state], self._store.jobs.count(state, kind))
        yield jobs
        yield GaugeMetricFamily("chamnet_targets", "Look-up tables", value=len(self._store.targets()))
        held = self._store.leases.held().items()
        in_use = sum(is_alive(lease) and not unit.startswith(SWEEP) for unit, lease in held)
        yield GaugeMetricFamily("chamnet_units_in_use", "Units that are measured on", value=in_use)


@router.get(
    "/metrics", dependencies=[access.READ], response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "for Prometheus"}},
)  # fmt: skip
def metrics(request: Request, service: Serving) -> PlainTextResponse:
    """Counters and gauges for Prometheus."""
    of_store = CollectorRegistry()
    of_store.register(StoreGauges(service.store))
    told = generate_latest(request.app.state.registry) + generate_latest(of_store)
    return PlainTextResponse(told, media_type=CONTENT_TYPE_LATEST)


@router.get("/health/ready")
def ready(service: Serving) -> Ready:
    """Whether the database answers: 503 where it does not."""
    service.store.leases.held()
    return Ready()
