"""The ADB wire format: a header of six words, then the payload.

Protocol version 0x01000001 has no checksums: the field stays 0. The features leave out ``delayed_ack`` and
``sendrecv_v2``: what is advertised must be implemented.

References: packages/modules/adb/protocol.txt of AOSP.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from enum import IntEnum

PROTOCOL_VERSION = 0x01000001
MAX_PAYLOAD_BYTES = 1 << 20
FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "apex", "fixed_push_symlink_timestamp")

_HEADER = struct.Struct("<6I")
_ALL_BITS = 0xFFFFFFFF


class Command(IntEnum):
    CONNECT = int.from_bytes(b"CNXN", "little")
    AUTHORISE = int.from_bytes(b"AUTH", "little")
    OPEN = int.from_bytes(b"OPEN", "little")
    READY = int.from_bytes(b"OKAY", "little")
    CLOSE = int.from_bytes(b"CLSE", "little")
    WRITE = int.from_bytes(b"WRTE", "little")


class AuthKind(IntEnum):
    """First argument of AUTHORISE."""

    TOKEN = 1
    SIGNATURE = 2
    PUBLIC_KEY = 3


@dataclass(frozen=True, slots=True)
class Packet:
    """``first`` and ``second`` mean what the command says: mostly the sender's and the receiver's stream number."""

    command: int
    first: int = 0
    second: int = 0
    payload: bytes = b""


def encode_packet(packet: Packet) -> bytes:
    magic = packet.command ^ _ALL_BITS
    header = _HEADER.pack(packet.command, packet.first, packet.second, len(packet.payload), 0, magic)
    return header + packet.payload


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """The next packet.

    Raises:
        asyncio.IncompleteReadError: the connection has ended.
        ConnectionError: what came is no ADB packet, or the connection was cut.
    """
    header = await reader.readexactly(_HEADER.size)
    command, first, second, size_bytes, _, magic = _HEADER.unpack(header)
    if magic != command ^ _ALL_BITS:
        raise ConnectionError(f"an ADB header must end in its command inverted, but got {header!r}")
    return Packet(command, first, second, await reader.readexactly(size_bytes))
