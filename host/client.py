"""A thin client of the service that ``chamnet serve`` runs, for search loops and CI jobs. It needs httpx only.

    with Client("http://127.0.0.1:8420") as client:
        print(client.predict("pixel6", network="mobilenet-v2").latency_ms)

Targets are called by their id, their name, or a part of it that only one has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from host.client_answers import (
    Accuracies,
    Accuracy,
    Entry,
    Job,
    JobFailed,
    MissingOperators,
    Prediction,
    ServiceError,
    Unreachable,
    check,
)
from host.errors import HostError

__all__ = ["Accuracies", "Client", "Entry", "Job", "JobFailed", "MissingOperators", "Prediction", "ServiceError",
           "Unreachable"]  # fmt: skip

DEFAULT_URL = "http://127.0.0.1:8420"
BATCH = 10_000
"""Keys or genomes in one request."""
TIMEOUT_S = 60.0
POLL_S, LONGEST_POLL_S = 0.2, 2.0
TABLE_FORMATS = (".csv", ".jsonl", ".parquet")

Item = TypeVar("Item")


class Client:
    """A connection to a service; use it as a context manager.

    Args:
        token: of ``chamnet token create``; needed for writing, and for all where the service is no local one.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=timeout_s)
        self._ids: dict[str, str] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def targets(self, name: str = "") -> list[dict[str, Any]]:
        """Facts and counts of all tables, or of those whose name has a text."""
        found: list[dict[str, Any]] = self._get("/targets", {"name": name} if name else {})["targets"]
        return found

    def entries(self, target: str, keys: Sequence[str], batch: int = BATCH) -> list[Entry | None]:
        """What operators cost, in the order of their keys; None where the table has none. As many as you like."""
        path = f"/targets/{self._id(target)}/entries"
        rows = [row for some in _batches(keys, batch) for row in self._post(path, {"keys": some})["entries"]]
        return [None if row is None else Entry.of(row) for row in rows]

    def predict(
        self,
        target: str,
        *,
        network: str | None = None,
        operators: Sequence[str] | Mapping[str, int] | None = None,
        space: str | None = None,
        genome: Sequence[int] | str | None = None,
        model: Path | str | bytes | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        estimate: bool = False,
        calibration: str = "",
    ) -> Prediction:
        """What a network costs on a target.

        Args:
            operators: keys, or how often each comes by key.
            model: an .onnx or .tflite file, or its bytes.
            shapes: of inputs that a model leaves open.
            estimate: also price operators beyond the measured sizes.

        Raises:
            MissingOperators: operators without a price, or nodes that are not understood.
            ServiceError: anything else that cannot be answered.
        """
        more = {"estimate": estimate, "calibration": calibration}
        if model is not None:
            return Prediction.of(self._predict_model(target, model, shapes or {}, more))
        listed = None
        if operators is not None:
            pairs = operators.items() if isinstance(operators, Mapping) else ((key, 1) for key in operators)
            listed = [{"key": key, "count": count} for key, count in pairs]
        chosen = genome if genome is None or isinstance(genome, str) else [int(value) for value in genome]
        asked = {"network": network, "operators": listed, "space": space, "genome": chosen}
        given = {name: value for name, value in asked.items() if value is not None}
        return Prediction.of(self._post("/predictions", {"target": target, **given, **more}))

    def accuracies(
        self, space: str, genomes: Sequence[Sequence[int] | str], dataset: str = "", recipe: str = ""
    ) -> Accuracies:
        """Predicted accuracies of networks of a space, in the order of the genomes, and what they rest on."""
        texts = [genome if isinstance(genome, str) else "-".join(map(str, genome)) for genome in genomes]
        more = {"space": space, "dataset": dataset, "recipe": recipe}
        parts = [self._post("/accuracies", {"genomes": some, **more}) for some in _batches(texts, BATCH)]
        rows = tuple(Accuracy.of(row) for part in parts for row in part["accuracies"])
        return Accuracies(rows, parts[-1]["basis"] if parts else {})

    def search(self, space: str, **asked: Any) -> Job:
        """Queues a search; ``asked`` as the body of ``POST /v1/searches`` has it."""
        return Job.of(self._post("/searches", {"space": space, **asked}))

    def profile(self, device: str = "local-cpu", **asked: Any) -> Job:
        """Queues a measurement; ``asked`` as the body of ``POST /v1/profiles`` has it."""
        return Job.of(self._post("/profiles", {"device": device, **asked}))

    def import_table(self, path: Path | str) -> Job:
        """Queues the import of a .jsonl or .parquet file, as ``table`` writes it."""
        with Path(path).open("rb") as file:
            return Job.of(self._ask("POST", "/imports", content=file, headers=_OCTETS).json())

    def jobs(self, state: str = "", kind: str = "") -> list[Job]:
        """The newest jobs, newest first, without what came of them."""
        asked = {name: value for name, value in (("state", state), ("kind", kind)) if value}
        return [Job.of(row) for row in self._get("/jobs", asked)["jobs"]]

    def job(self, uid: str) -> Job:
        return Job.of(self._get(f"/jobs/{quote(uid, safe='')}"))

    def cancel(self, job: Job) -> Job:
        return Job.of(self._post(f"/jobs/{job.uid}/cancel", None))

    def wait(self, job: Job, told: Callable[[Job], object] | None = None, patience_s: float = 120.0) -> Job:
        """A job once it is done.

        Args:
            told: called with the job whenever it has changed.
            patience_s: how long the service may be away meanwhile, since jobs outlive it.

        Raises:
            JobFailed: it failed, or was cancelled.
            Unreachable: the service stays away.
        """
        seen, pause_s, heard = -1, POLL_S, time.monotonic()
        while True:
            try:
                job, heard = self.job(job.uid), time.monotonic()
            except Unreachable:
                if time.monotonic() - heard > patience_s:
                    raise
            if job.revision != seen:
                seen, pause_s = job.revision, POLL_S
                if told is not None:
                    told(job)
            if job.has_ended:
                break
            time.sleep(pause_s)
            pause_s = min(LONGEST_POLL_S, 1.5 * pause_s)
        if job.state != "done":
            raise JobFailed(job)
        return job

    def table(self, target: str, path: Path | str) -> Path:
        """Writes a whole table to a file: entries as .csv, or all down to the samples as .jsonl or .parquet."""
        path = Path(path)
        if path.suffix not in TABLE_FORMATS:
            raise HostError(f"a table's file must end in {', '.join(TABLE_FORMATS)}, but got {path.name!r}")
        part = path.with_name(f"{path.name}.part")
        with self._stream(f"/targets/{self._id(target)}/table{path.suffix}") as answer, part.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)
        return part.replace(path)

    def _predict_model(
        self, target: str, model: Path | str | bytes, shapes: Mapping[str, Sequence[int]], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        listed = [f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items()]
        asked = {"target": target, "shape": listed, **more}
        if isinstance(model, bytes):
            return self._json("POST", "/predictions/model", params=asked, content=model, headers=_OCTETS)
        path = Path(model)
        with path.open("rb") as file:
            asked["name"] = path.stem[:200]
            return self._json("POST", "/predictions/model", params=asked, content=file, headers=_OCTETS)

    def _id(self, target: str) -> str:
        """What a target is called in a path, where a name's slashes cannot be."""
        if "/" not in target:
            return quote(target, safe="")
        if target not in self._ids:
            found = self.targets(target)
            if len(found) != 1:
                listed = ", ".join(row["name"] for row in found or self.targets()) or "none yet"
                raise HostError(f"one target must match {target!r}, but got {len(found)}; known: {listed}")
            self._ids[target] = found[0]["id"]
        return self._ids[target]

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._json("GET", path, params=params)

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        return self._json("POST", path, json=body)

    def _json(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(method, path, **asked).json()
        return found

    def _ask(self, method: str, path: str, **asked: Any) -> httpx.Response:
        with self._reached():
            answer = self._http.request(method, path, **asked)
        check(answer)
        return answer

    @contextmanager
    def _stream(self, path: str) -> Iterator[httpx.Response]:
        with self._reached(), self._http.stream("GET", path) as answer:
            if answer.is_error:
                answer.read()
            check(answer)
            yield answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise Unreachable(f"the service at {self.url} must answer in time, but does not; see its log") from None
        except httpx.TransportError as error:
            raise Unreachable(
                f"a service must answer at {self.url}, but got: {error or type(error).__name__}; start it with "
                "'chamnet serve'"
            ) from None


_OCTETS = {"Content-Type": "application/octet-stream"}


def _batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
