"""Parses uploaded models, each in a process of its own: ``python -m host.api.parse_worker MEMORY_BYTES CPU_S``.

The program itself only imports what parsing needs, and then makes children by forking, which takes milliseconds. Its
standard input is a socket (``parse_children``) on which it is told a number, and tells one back: 0 with a connection
asks for a child that reads from there, and is answered with the child's id; an id ends that child, and is answered with
its exit status.

A child takes one model: a line of JSON (``length``, ``shapes``, ``name``) and as many bytes. It answers with a line of
JSON: ``graph`` (``ops_catalog.graphfile``), ``unknown`` and ``notes``; or an ``error`` of one line; or the ``limit``
that it met. It can open nothing: no file, no connection, no process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from ops_catalog import ops
from ops_catalog.graphfile import graph_to_json
from ops_catalog.parse import PARSERS, ParseError, parse_model

NUMBER = struct.Struct("<i")
STATM = Path("/proc/self/statm")
MOST_DESCRIPTORS = 64


def main(memory_bytes: int, cpu_s: int) -> None:
    """Makes and ends children until the service is gone; they see that by themselves."""
    import_all()
    control = socket.socket(fileno=0)
    while True:
        word, handles, _, _ = socket.recv_fds(control, NUMBER.size, 1)
        if len(word) < NUMBER.size:
            return
        child = NUMBER.unpack(word)[0]
        control.sendall(NUMBER.pack(end(child) if child else begin(handles[0], memory_bytes, cpu_s)))


def begin(connection: int, memory_bytes: int, cpu_s: int) -> int:
    """Makes a child for a connection; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            parse_one(connection, memory_bytes, cpu_s)
        finally:
            os._exit(1)
    os.close(connection)
    return child


def end(child: int) -> int:
    """Ends a child, if it has not; returns its exit status, below 0 for a signal."""
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def parse_one(connection: int, memory_bytes: int, cpu_s: int) -> None:
    """The life of a child, which has nothing but its connection."""
    os.dup2(connection, 0)
    os.dup2(connection, 1)
    os.closerange(3, MOST_DESCRIPTORS)
    confine(memory_bytes, cpu_s)
    line = sys.stdin.buffer.readline()
    if line:
        print(json.dumps(answer(json.loads(line), sys.stdin.buffer)), flush=True)
    os._exit(0)


def import_all() -> None:
    """What parsing imports when it needs it, which a child could not."""
    for module in PARSERS.values():
        import_module(module)
    for op_type in ops.OPS:
        ops.operator(op_type)


def confine(memory_bytes: int, cpu_s: int) -> None:
    """Limits for what comes: ``memory_bytes`` and ``cpu_s`` beyond what was taken until now, and no descriptors."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(spent.ru_utime + spent.ru_stime) + 1 + cpu_s
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    if STATM.exists():
        limits[resource.RLIMIT_AS] = int(STATM.read_text().split()[0]) * resource.getpagesize() + memory_bytes
    for name, limit in (limits | {resource.RLIMIT_NPROC: 0, resource.RLIMIT_NOFILE: 0}).items():
        resource.setrlimit(name, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def answer(request: Mapping[str, Any], source: BinaryIO) -> dict[str, Any]:
    """What is in a model, or why it cannot be told."""
    try:
        data = source.read(request["length"])
        if len(data) < request["length"]:
            return {"error": "a model must come whole, but its upload ended early; send it again"}
        shapes = {name: tuple(sides) for name, sides in request["shapes"].items()}
        parsed = parse_model(data, shapes, request["name"])
        unknown = [asdict(node) for node in parsed.unknown]
        return {"graph": graph_to_json(parsed.graph), "unknown": unknown, "notes": list(parsed.notes)}
    except (ParseError, MemoryError) as error:
        return {"limit": "memory"} if _is_memory(error) else {"error": str(error)}


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error is one of memory, or was made of one by who took it for damage in the file."""
    return error is not None and (isinstance(error, MemoryError) or _is_memory(error.__context__))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
