"""Readers of a service, for ``benchmarks.soak``: one process that asks until its input ends, then prints what it met.

python -m benchmarks.soak_readers URL TARGET NETWORK
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

READERS = 8
PAUSE_S = 0.04
"""Of a reader between two requests: about a hundred a second in all, so that measuring goes on beside them."""
AWAY_S = 0.25
"""Before the next one where the service is not there."""
BATCH = 1000
MOST_TOLD = 50
LIMIT_S = 30.0


@dataclass(slots=True)
class Met:
    """What came of the requests of a kind: times of those answered, in seconds; begin, end and text of each error."""

    seconds: list[float] = field(default_factory=list)
    broken: list[tuple[float, float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        times = sorted(self.seconds)
        at = {f"p{share}_ms": _quantile_ms(times, share) for share in (50, 99)}
        most = times[-1] * 1e3 if times else None
        wrong = {"count": len(self.wrong), "first": self.wrong[:MOST_TOLD]}
        return {"answered": len(times), **at, "most_ms": most, "broken": self.broken, "wrong": wrong}


def _quantile_ms(times: Sequence[float], percent: int) -> float | None:
    return 1e3 * times[min(len(times) - 1, len(times) * percent // 100)] if times else None


Ask = Callable[[httpx.AsyncClient, random.Random], Awaitable[httpx.Response]]


def questions(target: str, network: str, keys: Sequence[str]) -> dict[str, tuple[int, Ask]]:
    """How often each kind is asked, and how."""
    path, asked = f"/v1/targets/{target}", {"target": target, "network": network}
    return {
        "single": (60, lambda client, rng: client.get(f"{path}/entries", params={"key": rng.choice(keys)})),
        "batch": (10, lambda client, rng: client.post(f"{path}/entries", json={"keys": rng.choices(keys, k=BATCH)})),
        "page": (10, lambda client, rng: client.get(f"{path}/operators", params={"limit": 100})),
        "prediction": (8, lambda client, rng: client.post("/v1/predictions", json=asked)),
        "measurements": (5, lambda client, rng: client.get(f"{path}/measurements", params={"key": rng.choice(keys)})),
        "targets": (4, lambda client, rng: client.get("/v1/targets")),
        "jobs": (3, lambda client, rng: client.get("/v1/jobs")),
    }  # fmt: skip


async def read(url: str, target: str, network: str, ended: asyncio.Event) -> dict[str, Met]:
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
        page = (await client.get(f"/v1/targets/{target}/operators", params={"limit": 500})).json()
        kinds = questions(target, network, [row["key"] for row in page["operators"]])
        met = {kind: Met() for kind in kinds}
        await asyncio.gather(*(_reader(client, kinds, met, random.Random(seed), ended) for seed in range(READERS)))
    return met


async def _reader(
    client: httpx.AsyncClient, kinds: dict[str, tuple[int, Ask]], met: dict[str, Met], rng: random.Random,
    ended: asyncio.Event,
) -> None:  # fmt: skip
    names, weights = list(kinds), [weight for weight, _ in kinds.values()]
    while not ended.is_set():
        (kind,) = rng.choices(names, weights)
        answered = await _ask(kinds[kind][1], client, rng, met[kind])
        await asyncio.sleep(rng.uniform(0, 2 * PAUSE_S) if answered else AWAY_S)


async def _ask(ask: Ask, client: httpx.AsyncClient, rng: random.Random, met: Met) -> bool:
    """Whether there was an answer."""
    wall, start = time.time(), time.perf_counter()
    try:
        answer = await ask(client, rng)
    except httpx.TransportError as error:
        met.broken.append((wall, time.time(), f"{type(error).__name__}: {error}"))
        return False
    if answer.status_code == 200 and answer.json() is not None:
        met.seconds.append(time.perf_counter() - start)
    else:
        met.wrong.append(f"{answer.status_code} {answer.text[:300]}")
    return True


async def main(url: str, target: str, network: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)))
    met = await read(url, target, network, ended)
    print(json.dumps({kind: found.as_json() for kind, found in met.items()}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
