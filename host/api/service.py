"""What the routers share for as long as the service lives: the open database and what is dear to load again."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request

from host.api.phone_watch import PhoneWatch
from host.api.problems import Problem
from host.api.uploads import Parser
from host.predict import Predictor, predictor_of
from lut_db.records import Target, targets_named
from lut_db.samples import open_samples
from lut_db.store import open_store

KEPT = 8
"""Tables that are held in memory at once."""
LISTED = 50
"""Targets that an error names at most."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """How a service runs.

    Attributes:
        db: the database, a file or a URL.
        max_batch: keys or genomes in one request.
        rate: requests a second for each token, twice as many at once; 0 for no limit.
        cors: origins whose pages may read the answers.
        allowed_hosts: names it is reached by, beside its own.
    """

    db: str
    host: str = "127.0.0.1"
    port: int = 8420
    max_upload_mb: int = 256
    max_batch: int = 10_000
    rate: float = 200.0
    cors: tuple[str, ...] = ()
    run_jobs: bool = True
    allowed_hosts: tuple[str, ...] = ()

    @property
    def loopback(self) -> bool:
        """Whether its address is one that only this computer reaches."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def reads_openly(self) -> bool:
        """Whether reading needs no token: under a foreign name a proxy of this computer may bring others, too."""
        return self.loopback and not self.allowed_hosts


class Kept:
    """The last few of what is dear to make. Each is made once, one at a time; what is there never waits."""

    def __init__(self, size: int = KEPT) -> None:
        self._size = size
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._making = threading.RLock()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Value]) -> Value:
        found = self._known(key)
        if not found:
            with self._making:
                found = self._known(key) or self._put(key, make())
        return cast(Value, found[0])

    def _known(self, key: Any) -> tuple[Any, ...]:
        with self._lock:
            if key not in self._values:
                return ()
            self._values.move_to_end(key)
            return (self._values[key],)

    def _put(self, key: Any, value: Any) -> tuple[Any, ...]:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return (value,)


class Service:
    """An open database and its caches. Opened and closed by the application's life."""

    def __init__(self, config: ServiceConfig) -> None:
        """Raises LutError where the database cannot be opened."""
        self.config = config
        self.store = open_store(config.db)
        self.samples = open_samples(config.db)
        self.ending: Callable[[], bool] = lambda: False
        """Whether the service was told to end: answers that go on for ever end then."""
        self._targets: dict[str, Target] = {}
        self._predictors = Kept()
        self._digests = Kept(size=8 * KEPT)
        self.fits = Kept()
        self.phones = PhoneWatch()
        self.in_turn = CapacityLimiter(1)
        """For look-ups long enough for a thread: several at once would only take the interpreter from each other."""
        self.parser = Parser()

    async def close(self) -> None:
        await self.parser.close()
        self.phones.close()
        self.samples.__exit__(None, None, None)
        self.store.__exit__(None, None, None)

    def target(self, id_or_name: str) -> Target:
        """A target by its id, its name, or a part of the name that only it has. Raises Problem."""
        found = self._targets.get(id_or_name)
        if found is None:
            self._targets = {target.id: target for target in self.store.targets()}
            found = self._targets.get(id_or_name) or self._named(id_or_name)
        return found

    def predictor_for(self, target: Target, estimate: bool = False, family: str = "") -> Predictor:
        """The predictor of a target's table as it is now. Raises LutError for an unknown family."""
        key = (target.id, self.store.lookups.version(target), estimate, family)
        return self._predictors.get(key, lambda: predictor_of(self.store, target, estimate, family))

    def digest(self, target: Target) -> str:
        """The digest of a target's table as it is now."""
        key = (target.id, self.store.lookups.version(target))
        return self._digests.get(key, lambda: self.store.digest(target))

    def _named(self, name: str) -> Target:
        known = list(self._targets.values())
        found = targets_named(known, name)
        if len(found) == 1:
            return found[0]
        listed = [{"id": target.id, "name": target.name} for target in (found or known)[:LISTED]]
        several = f"; {len(found)} match" if found else ""
        detail = f"a target must be one of those known, but got {name!r}{several}; see /v1/targets"
        raise Problem(404, "Unknown target", detail, "unknown-target", {"known": listed})


def current_service(request: Request) -> Service:
    """The service of a request, where a dependency would take longer than the answer."""
    found: Service = request.app.state.service
    return found


async def service_of(request: Request) -> Service:
    return current_service(request)


Serving = Annotated[Service, Depends(service_of)]
