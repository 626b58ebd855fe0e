"""A made-up engine with exact time, for tests and trials: its model file is JSON, {"ns": 1000}.

Time passes only in what it reports; ``"uw"`` is the power that a replayed meter adds while the model runs. ``"fail"``
makes it misbehave for real: crash (a segmentation fault), hang, exit, memory, load, run; ``"fail_once"`` names a file
that it makes when it does so, and whose existence then keeps it from doing so again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Dict, List

LIVE = 64
CALL_NS = 250


def version() -> str:
    return "1"


def live(options: Dict[str, Any]) -> int:
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    return OpenModel(path)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    shutil.copyfile(path, into_path)


class OpenModel:
    def __init__(self, path: str) -> None:
        self._model: Dict[str, Any] = json.loads(Path(path).read_text())
        self._ns = int(self._model["ns"])
        self.power_uw = self._model.get("uw")
        if self._fails("load"):
            raise ValueError("this fake model does not load")

    def run(self, loops: int) -> int:
        self._misbehave()
        return loops * (self._ns + CALL_NS)

    def infer(self, arrays: List[Any]) -> List[Any]:
        return arrays

    def _misbehave(self) -> None:
        if self._fails("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fails("hang"):
            time.sleep(3600)
        if self._fails("exit"):
            os._exit(7)
        if self._fails("memory"):
            raise MemoryError
        if self._fails("run"):
            raise ValueError("this fake model does not run")

    def _fails(self, how: str) -> bool:
        if self._model.get("fail") != how:
            return False
        once = self._model.get("fail_once")
        if once is None:
            return True
        if os.path.exists(once):
            return False
        Path(once).touch()
        return True
