"""Jobs: searches, profiles and imports that are queued here and run as commands of their own; how far they are."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from host.api.access import READ, WRITE, caller
from host.api.job_events import Streams, events, stream_slot
from host.api.job_requests import (
    ProfileRequest,
    SearchRequest,
    canonical_operators,
    check_networks,
    profile_arguments,
    search_arguments,
)
from host.api.job_uploads import receive_table
from host.api.problems import Problem, answers
from host.api.schemas import EPOCH_S, example
from host.api.service import Service, Serving
from host.devices import LOCAL_CPU, LOCAL_GPU, REACH
from host.job_files import shared_folder
from host.job_runner import TABLE
from host.phones import answers_to
from lut_db.jobs import ENDED, Job

log = logging.getLogger("chamnet.jobs")
router = APIRouter(prefix="/v1", tags=["jobs"], responses=answers(404))

Uid = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["5f0c1d7e9a3b4c6d8e0f1a2b3c4d5e6f"])]
Kind = Literal["search", "profile", "import"]
State = Literal["queued", "running", "done", "failed", "cancelled"]

AS_STORED = (
    "uid", "kind", "state", "created_at", "started_at", "ended_at", "attempts", "progress", "error", "exit_status",
    "cancel_asked", "revision", "made_by",
)  # fmt: skip
MOST_WAITING = 100
"""Jobs of a kind in the queue."""
BINARY = {"schema": {"type": "string", "format": "binary"}}
TABLE_BODY = {
    "requestBody": {"required": True, "content": {"application/x-ndjson": BINARY, "application/octet-stream": BINARY}}
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "where the job is", "schema": {"type": "string"}}}}
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "events until the job has ended", "content": {"text/event-stream": {"schema": {}}}},
    204: {"description": "the job has ended, and its last state is known"},
}


class JobProgress(BaseModel):
    """How far a job is."""

    title: str = Field(default="", description="of what several parts are done", examples=["litert float32 t1"])
    stage: str = Field(examples=["pass 1"])
    done: int = Field(examples=[640])
    total: int = Field(examples=[1500])
    note: str = Field(description="why it waits; empty where it does not")


class JobBody(BaseModel):
    """A job as it stands."""

    model_config = example(
        uid="5f0c1d7e9a3b4c6d8e0f1a2b3c4d5e6f", kind="profile", state="running", created_at=EPOCH_S,
        started_at=EPOCH_S + 1, ended_at=None, attempts=1,
        command="chamnet profile --json --device=local-cpu --engine=litert --network=mobilenet-v2",
        progress={"title": "litert float32 t1", "stage": "pass 1", "done": 640, "total": 1500, "note": ""},
        error="", exit_status=None, cancel_asked=False, revision=7, made_by="ci", request=None, result=None,
    )  # fmt: skip

    uid: str
    kind: Kind
    state: State
    created_at: float
    started_at: float | None = Field(description="of the last attempt")
    ended_at: float | None
    attempts: int = Field(description="how often it was begun; more than once where its process was ended from outside")
    command: str = Field(description="what a person would type")
    progress: JobProgress | None
    error: str = Field(description="why it failed")
    exit_status: int | None = Field(description="of the command: 0 done, 3 done in part")
    cancel_asked: bool
    revision: int = Field(description="grows with every change; the id of events")
    made_by: str = Field(description="name of the token")
    request: dict[str, Any] | None = Field(description="what was asked; told of a single job")
    result: Any = Field(
        description="what the command printed, told of a single job and in events: of a search all about it, of a "
        "profile a summary for each setting, of an import its targets; what a search lacks, as `missing`"
    )


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobBody]
    next: str | None = Field(description="the cursor of the next page; null on the last")


@router.post("/searches", status_code=202, dependencies=[WRITE], responses=ACCEPTED)
def start_search(asked: SearchRequest, request: Request, response: Response, service: Serving) -> JobBody:
    """Queues a search for the most accurate networks within limits."""
    targets = [service.target(one.target) for one in asked.targets]
    if asked.verify:
        _reach(service, targets[0].device)
    arguments = search_arguments(asked, targets)
    return _queued(service, request, response, "search", asked.model_dump(mode="json", by_alias=True), arguments)


@router.post("/profiles", status_code=202, dependencies=[WRITE], responses=ACCEPTED)
def start_profile(asked: ProfileRequest, request: Request, response: Response, service: Serving) -> JobBody:
    """Queues a measurement of operators on a device; what has clean measurements is not measured again."""
    check_networks(asked.networks)
    asked = asked.model_copy(update={"operators": canonical_operators(asked.operators)})
    arguments = profile_arguments(asked, _reach(service, asked.device))
    return _queued(service, request, response, "profile", asked.model_dump(mode="json"), arguments)


@router.post(
    "/imports", status_code=202, dependencies=[WRITE], responses=ACCEPTED | answers(415), openapi_extra=TABLE_BODY
)
async def start_import(request: Request, response: Response, service: Serving) -> JobBody:
    """Queues the import of a table: the body is a file of JSON Lines or Parquet, as an export writes it."""
    await run_in_threadpool(_check_queue, service, "import")
    upload, size_bytes = await receive_table(request, await run_in_threadpool(shared_folder, service.config.db))
    asked = {"upload": upload.name, "size_bytes": size_bytes}
    arguments = ["lut", "import", f"{TABLE}{upload.suffix}", "--json"]
    try:
        return await run_in_threadpool(_queued, service, request, response, "import", asked, arguments)
    except BaseException:
        upload.unlink(missing_ok=True)
        raise


@router.get("/jobs", dependencies=[READ])
def list_jobs(
    service: Serving,
    state: State | None = None,
    kind: Kind | None = None,
    cursor: Annotated[str, Query(pattern=r"^\d{0,18}$", description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobPage:
    """Lists jobs, newest first, without what was asked and what came of it."""
    before = int(cursor) if cursor else None
    rows = service.store.jobs.page(state or "", kind or "", before, limit + 1)
    more = len(rows) > limit
    jobs = [body_of(job, result=False) for _, job in rows[:limit]]
    return JobPage(jobs=jobs, next=str(rows[limit - 1][0]) if more else None)


@router.get("/jobs/{uid}", dependencies=[READ])
def get_job(uid: Uid, service: Serving) -> JobBody:
    """Tells how a job stands, what was asked and what came of it."""
    return body_of(_known(uid, service.store.jobs.get(uid)), request=True)


@router.get("/jobs/{uid}/events", dependencies=[READ], response_class=Response, responses=STREAM)
async def follow_job(
    uid: Uid,
    service: Serving,
    streams: Annotated[Streams, Depends(stream_slot)],
    last_event_id: Annotated[str, Header(max_length=40, description="the last revision that was seen")] = "",
) -> Response:
    """Tells each change of a job as a server-sent event, from its state now to its last; the id is the revision."""
    job = _known(uid, await streams.job(service.store.jobs, uid))
    seen = int(last_event_id) if last_event_id.isascii() and last_event_id.isdecimal() else -1
    if job.state in ENDED and seen == job.revision:
        return Response(status_code=204)
    told = events(streams, service.store.jobs, uid, seen, lambda job: body_of(job).model_dump_json(), service.ending)
    return EventSourceResponse(told, headers={"X-Accel-Buffering": "no"})


@router.post("/jobs/{uid}/cancel", dependencies=[WRITE])
def cancel_job(uid: Uid, service: Serving) -> JobBody:
    """Cancels a job: one that waits at once, one that runs as soon as its command has stored what it has."""
    return body_of(_known(uid, service.store.jobs.ask_cancel(uid)), request=True)


def body_of(job: Job, request: bool = False, result: bool = True) -> JobBody:
    """A job as it is told."""
    told: dict[str, Any] = {name: getattr(job, name) for name in AS_STORED}
    told |= {"command": shlex.join(["chamnet", *job.arguments]), "result": job.result if result else None}
    told["request"] = {k: v for k, v in job.request.items() if k != "upload"} if request else None
    return JobBody(**told)


def _known(uid: str, job: Job | None) -> Job:
    if job is None:
        raise Problem(404, "Unknown job", f"a job must be there, but got {uid!r}; /v1/jobs lists them", "unknown-job")
    return job


def _queued(
    service: Service, request: Request, response: Response, kind: str, asked: Mapping[str, Any],
    arguments: Sequence[str],
) -> JobBody:  # fmt: skip
    """Adds a job. Raises Problem where too many wait."""
    _check_queue(service, kind)
    job = service.store.jobs.add(kind, asked, arguments, caller(request))
    log.info("job added", extra={"facts": {"job": job.uid, "kind": kind, "by": job.made_by}})
    response.headers["Location"] = f"/v1/jobs/{job.uid}"
    return body_of(job, request=True)


def _check_queue(service: Service, kind: str) -> None:
    """Raises Problem where too many wait."""
    if service.store.jobs.count("queued", kind) >= MOST_WAITING:
        detail = f"at most {MOST_WAITING} jobs of a kind may wait, but so many do; cancel some, or wait"
        raise Problem(429, "Too many jobs", detail, "too-many-jobs", headers={"Retry-After": "60"})


def _reach(service: Service, name: str) -> str:
    """What a device is reached by: as it was told when it was measured, or as ADB lists it. Raises Problem."""
    if name in (LOCAL_CPU, LOCAL_GPU):
        return name
    known = [device for device in service.store.devices() if "imported" not in device.facts]
    for device in known:
        if device.name == name:
            return str(device.facts.get(REACH, name))
    phones = [phone for phone in service.phones.phones() if phone.is_ready]
    named = [phone.serial for phone in phones if answers_to(phone, name)]
    if len(named) == 1:
        return named[0]
    listed = [LOCAL_CPU, LOCAL_GPU, *(device.name for device in known), *(phone.serial for phone in phones)]
    detail = f"a device must be one of {', '.join(dict.fromkeys(listed))}, but got {name!r}"
    raise Problem(422, "Unknown device", detail, "unknown-device", {"known": list(dict.fromkeys(listed))})
