"""Devices: what is stored of each, who measures on it now, and which phones are connected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from host.api.access import READ
from host.api.schemas import EPOCH_S, example
from host.api.service import Service, Serving
from host.devices import LOCAL_CPU
from host.lease import STALE_S, gone, who
from host.phones import Phone, answers_to, describe_phone
from lut_db.leases import Held
from lut_db.records import Device

router = APIRouter(prefix="/v1", tags=["devices"], dependencies=[READ])


class Measuring(BaseModel):
    """Who measures on a device now."""

    model_config = example(by="process 4711 on bench", since=EPOCH_S, heard_at=EPOCH_S + 60, job=None)

    by: str
    since: float = Field(description="seconds since the epoch, UTC")
    heard_at: float = Field(description="when it was last heard of")
    job: str | None = Field(description="`uid` of the job of this service that it is, if it is one")


class DeviceRow(BaseModel):
    """A device that was measured on, or whose table was imported."""

    model_config = example(
        name="local-cpu", model="AMD EPYC 7B13", facts={"cores": 2}, tables=3, newest_at=EPOCH_S, measuring=None,
        connected=True,
    )  # fmt: skip

    name: str
    model: str | None = Field(description="null where nothing but its name is known")
    facts: dict[str, Any] = Field(description="all that was read from it")
    tables: int = Field(description="number of its targets")
    newest_at: float | None = Field(description="when it was last measured on; seconds since the epoch, UTC")
    measuring: Measuring | None = Field(description="this computer itself is measured on without notice, jobs apart")
    connected: bool | None = Field(description="whether it can be reached now; null where that is not known")


class PhoneRow(BaseModel):
    """A phone on ADB, whether it was ever measured on or not."""

    model_config = example(
        serial="8XV5T15A21", device="snapdragon835@8XV5T15A21", ready=True,
        facts={"model": "Pixel 2", "soc": "snapdragon835", "battery": "87 %, 28.7 degrees"},
    )  # fmt: skip

    serial: str
    device: str | None = Field(description="name of the device that it is, if it is known")
    ready: bool
    facts: dict[str, Any] = Field(description="what it is, how it is now, what to do, and what can be measured on it")


class DeviceList(BaseModel):
    devices: list[DeviceRow]
    phones: list[PhoneRow]


@router.get("/devices")
def list_devices(service: Serving) -> DeviceList:
    """Devices, whether somebody measures on them now, and phones that are connected."""
    phones = service.phones.phones()
    known = {device.name: device for device in service.store.devices()}
    names = dict.fromkeys([*known, *(target.device for target in service.store.targets())])
    now = _measuring(service)
    tables = _tables(service)
    rows = [_row(name, known.get(name), tables.get(name, []), now.get(name), phones) for name in names]
    return DeviceList(devices=rows, phones=[_phone(phone, list(known)) for phone in phones])


def _row(
    name: str, device: Device | None, newest: Sequence[float | None], measuring: Measuring | None,
    phones: Sequence[Phone],
) -> DeviceRow:  # fmt: skip
    times = [at for at in newest if at is not None]
    return DeviceRow(
        name=name, model=device.model if device else None, facts=dict(device.facts) if device else {},
        tables=len(newest), newest_at=max(times, default=None), measuring=measuring,
        connected=True if name == LOCAL_CPU or any(_is(phone, name) for phone in phones) else None,
    )  # fmt: skip


def _tables(service: Service) -> dict[str, list[float | None]]:
    """By device, when each of its targets was last measured."""
    counts = service.store.lookups.counts()
    found: dict[str, list[float | None]] = {}
    for target in service.store.targets():
        row = counts.get(target.key)
        found.setdefault(target.device, []).append(row["newest_at"] if row else None)
    return found


def _measuring(service: Service) -> dict[str, Measuring]:
    """By device, who holds it, and which jobs measure on it."""
    found = {unit: _holder(held) for unit, held in service.store.leases.held().items() if is_alive(held)}
    for _, job in service.store.jobs.page(state="running", kind="profile", whole=True):
        name = str(job.request.get("device", ""))
        since, heard = job.started_at or job.created_at, job.heartbeat_at or job.created_at
        found[name] = Measuring(by=f"job {job.uid}", since=since, heard_at=heard, job=job.uid)
    return found


def _holder(held: Held) -> Measuring:
    return Measuring(by=who(held.owner), since=held.acquired_at, heard_at=held.heartbeat_at, job=None)


def is_alive(held: Held) -> bool:
    """Whether who holds a unit still measures on it."""
    return time.time() - held.heartbeat_at < STALE_S and not gone(held.owner)


def _phone(phone: Phone, names: Sequence[str]) -> PhoneRow:
    device = next((name for name in names if _is(phone, name)), None)
    return PhoneRow(serial=phone.serial, device=device, ready=phone.is_ready, facts=describe_phone(phone))


def _is(phone: Phone, name: str) -> bool:
    """Whether a phone is the device of that name; another of its model or chip is not."""
    return phone.serial in name and answers_to(phone, name)
