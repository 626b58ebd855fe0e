"""Raw samples as compact bytes: about two bytes a sample.

Layout, little-endian: number of bursts (u16); per burst its length (u16) and start in s (f32); the smallest
sample (u64) and the width of what follows (u8: 2, 4 or 8); then every sample less the smallest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Bursts = tuple[tuple[int, ...], ...]


def pack(bursts_ns: Sequence[Sequence[int]], started_s: Sequence[float]) -> bytes:
    """Bytes of a measurement's samples. Raises ValueError where a burst has no start, or a start no burst."""
    if len(bursts_ns) != len(started_s):
        raise ValueError(f"each burst must have a start, but got {len(bursts_ns)} bursts and {len(started_s)} starts")
    samples = np.array([ns for burst in bursts_ns for ns in burst], np.uint64)
    least = samples.min() if samples.size else np.uint64(0)
    rest = samples - least
    peak = int(rest.max()) if samples.size else 0
    width = 2 if peak < 1 << 16 else 4 if peak < 1 << 32 else 8
    lengths = np.array([len(burst) for burst in bursts_ns], "<u2").tobytes()
    head = struct.pack("<H", len(bursts_ns)) + lengths + np.array(started_s, "<f4").tobytes()
    return head + struct.pack("<QB", int(least), width) + rest.astype(f"<u{width}").tobytes()


def unpack(blob: bytes) -> tuple[Bursts, tuple[float, ...]]:
    """The samples per burst, and when each burst began."""
    (count,) = struct.unpack_from("<H", blob)
    lengths = np.frombuffer(blob, "<u2", count, 2)
    started = np.frombuffer(blob, "<f4", count, 2 + 2 * count)
    offset = 2 + 6 * count
    least, width = struct.unpack_from("<QB", blob, offset)
    samples = np.frombuffer(blob, f"<u{width}", -1, offset + 9).astype(np.uint64) + np.uint64(least)
    ends = np.cumsum(lengths)
    bursts = tuple(tuple(map(int, part)) for part in np.split(samples, ends[:-1])) if count else ()
    return bursts, tuple(map(float, started))
