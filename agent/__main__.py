"""``python -m agent [--cpus 0,1] [--hold]``: serves on standard input and output until the input ends.

Engines print to standard output as they like: the protocol keeps a private copy of it, and what else is written
there goes to standard error. When the input ends or the connection hangs up, the phone's settings are put back, and the
agent goes even if an engine is still at work.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
from typing import Any, Callable, Iterable, Iterator, List, Optional

from agent import phone
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

    leave = once(phone.release if arguments.hold else lambda: None)
    if arguments.hold:
        phone.hold()
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, lambda *_: end(leave))
    try:
        serve(lines_of(sys.stdin, leave), send)
    finally:
        leave()


def once(act: Callable[[], None]) -> Callable[[], None]:
    """The act, done by whoever calls first; others wait for its end."""
    lock = threading.RLock()
    done: List[bool] = []

    def first() -> None:
        with lock:
            if not done:
                done.append(True)
                act()

    return first


def lines_of(source: Iterable[str], leave: Callable[[], None]) -> Iterator[str]:
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


def end(leave: Callable[[], Any]) -> None:
    leave()
    os._exit(0)


if __name__ == "__main__":
    main()
