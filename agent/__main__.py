"""``python -m agent [--cpus 0,1]``: serves on standard input and output until the input ends.

Engines print to standard output as they like: the protocol keeps a private copy of it, and what else is written
there goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys

from agent.protocol import Message, encode
from agent.serve import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent", description="Measures model files; speaks JSON lines.")
    parser.add_argument("--cpus", default="", help="processors to run on, such as 0,1; all if empty")
    arguments = parser.parse_args()
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if arguments.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in arguments.cpus.split(",")})

    def send(message: Message) -> None:
        wire.write(encode(message) + "\n")
        wire.flush()

    serve(sys.stdin, send)


if __name__ == "__main__":
    main()
