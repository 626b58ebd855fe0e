"""``python -m agent [--cpus 0,1] [--hold]``: serves on standard input and output until the input ends.

Engines print to standard output as they like: the protocol keeps a private copy of it, and what else is written
there goes to standard error. When the input ends or the connection hangs up, the phone's charging and settings are put
back, and the agent goes even if an engine is still at work.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
from typing import Callable, Iterable, Iterator, Optional

from agent import charging, phone
from agent.engines.launch import kill_all
from agent.protocol import Message, encode
from agent.serve import serve

GRACE_S = 3.0
"""For a request that is being answered when the host goes; what waited behind others is answered to its end."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent", description="Measures model files; speaks JSON lines.")
    parser.add_argument("--cpus", default="", help="processors to run on, such as 0,1; all if empty")
    parser.add_argument("--hold", action="store_true", help="keep the phone awake until the end")
    arguments = parser.parse_args()
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if arguments.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in arguments.cpus.split(",")})

    def send(message: Message) -> None:
        wire.write(encode(message) + "\n")
        wire.flush()

    leave = Leaving(put_back if arguments.hold else lambda: None)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, _: end_by(number, leave))
    if arguments.hold:
        charging.resume()
        phone.hold()
    try:
        serve(lines_of(sys.stdin, leave), send)
    finally:
        leave()


def put_back() -> None:
    """What was changed on the phone, charging first."""
    charging.resume()
    phone.release()


class Leaving:
    """An act for the end, done by whoever comes first; other threads wait for it to be done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._lock = threading.RLock()
        self.begun = False

    def __call__(self) -> None:
        with self._lock:
            if not self.begun:
                self.begun = True
                self._act()


def lines_of(source: Iterable[str], leave: Leaving) -> Iterator[str]:
    """The lines as they come, read beside the work, so that the end of the host is seen during it."""
    waiting: "queue.Queue[Optional[str]]" = queue.Queue()

    def read() -> None:
        for line in source:
            waiting.put(line)
        alone = waiting.empty()
        waiting.put(None)
        if alone:
            threading.Event().wait(GRACE_S)
            end(leave)

    threading.Thread(target=read, daemon=True).start()
    while True:
        line = waiting.get()
        if line is None:
            return
        yield line


def end(leave: Leaving) -> None:
    kill_all()
    leave()
    os._exit(0)


def end_by(number: int, leave: Leaving) -> None:
    """Ends as the signal would have; where the end has begun, it comes anyway."""
    if leave.begun:
        return
    kill_all()
    leave()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
