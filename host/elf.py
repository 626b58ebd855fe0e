"""What a 64-bit little-endian ELF file asks of its loader. Reads the program headers only, so stripped files do.

References:
    System V Application Binary Interface, chapters 4 and 5 (object files, dynamic linking).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host.errors import HostError

MAGIC = b"\x7fELF\x02\x01"
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5
SEGMENT = struct.Struct("<IIQQQQQQ")
ENTRY = struct.Struct("<qQ")


@dataclass(frozen=True, slots=True)
class Elf:
    """The libraries that a file needs, and the largest memory page that its segments fit (bytes)."""

    needed: tuple[str, ...]
    align_bytes: int


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size_bytes: int
    align_bytes: int


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_elf(path: Path) -> Elf:
    """Reads an executable or a shared library.

    Raises:
        HostError: it is no such file, or a damaged one.
    """
    content = path.read_bytes()
    try:
        if not content.startswith(MAGIC):
            raise ValueError(f"the first bytes are {content[:6]!r}")
        segments = list(_segments(content))
        loads = [segment for segment in segments if segment.kind == PT_LOAD]
        return Elf(tuple(_needed(content, segments, loads)), min((load.align_bytes for load in loads), default=0))
    except (ValueError, struct.error, StopIteration) as error:
        raise HostError(
            f"{path.name} must be a 64-bit little-endian ELF file, but got another ({error}); "
            "delete the cache folder and build again"
        ) from error


def _segments(content: bytes) -> Iterator[_Segment]:
    (start,) = struct.unpack_from("<Q", content, 32)
    size_bytes, count = struct.unpack_from("<HH", content, 54)
    for index in range(count):
        kind, _, offset, address, _, in_file, _, align = SEGMENT.unpack_from(content, start + index * size_bytes)
        yield _Segment(kind, offset, address, in_file, align)


def _needed(content: bytes, segments: list[_Segment], loads: list[_Segment]) -> list[str]:
    dynamic = next((segment for segment in segments if segment.kind == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    entries = list(_entries(content[dynamic.offset : dynamic.offset + dynamic.size_bytes]))
    address = next((value for tag, value in entries if tag == DT_STRTAB), 0)
    load = next(load for load in loads if load.address <= address < load.address + load.size_bytes)
    names = load.offset + address - load.address
    return [_text(content, names + value) for tag, value in entries if tag == DT_NEEDED]


def _entries(table: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in ENTRY.iter_unpack(table):
        if tag == DT_NULL:
            return
        yield tag, value


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()
