"""The ``sync:`` service: files to and from the device, version 1 and stat_v2/ls_v2.

References: packages/modules/adb/SYNC.TXT of AOSP.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_phone.adbd.options import Options, host_path
from tests.virtual_phone.adbd.streams import Stream

CHUNK_BYTES = 1 << 16
EXECUTABLE_BITS = 0o111
_REQUEST = struct.Struct("<4sI")
_STAT = struct.Struct("<4sIII")
_STAT_V2 = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY = struct.Struct("<4sIIII")
_ENTRY_V2 = struct.Struct("<4sIQQIIIIQqqqI")
_NO_STAT = (0, 0, 0)
_NO_STAT_V2 = (0,) * 10
_LOW_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync stream."""

    stream: Stream
    options: Options

    async def serve(self) -> None:
        while True:
            name, size_bytes = _REQUEST.unpack(await self.stream.read_exactly(_REQUEST.size))
            if name == b"QUIT":
                return
            path = (await self.stream.read_exactly(size_bytes)).decode()
            await self._answer(name, path)

    async def _answer(self, name: bytes, path: str) -> None:
        match name:
            case b"STAT":
                await self.stream.write(_STAT.pack(name, *_stat(self._host(path))))
            case b"STA2" | b"LST2":
                answer = _stat_v2(self._host(path), follow_links=name == b"STA2")
                await self.stream.write(_STAT_V2.pack(name, *answer))
            case b"LIST" | b"LIS2":
                await self.stream.write(_listing(self._host(path), of_version_2=name == b"LIS2"))
            case b"SEND":
                await self._take_file(path)
            case b"RECV":
                await self._give_file(path)
            case _:
                await self._fail(f"unknown request {name!r}")

    async def _take_file(self, target: str) -> None:
        path, _, mode = target.rpartition(",")
        received = self._chunks()
        try:
            await _write_file(self._host(path), int(mode, 0), received, self.options.file_limit_bytes)
        except OSError as error:
            async for _ in received:
                pass
            await self._fail(f"couldn't write '{path}': {error.strerror}")
        else:
            await self.stream.write(_REQUEST.pack(b"OKAY", 0))

    async def _chunks(self) -> AsyncIterator[tuple[bytes, int]]:
        """The data that come; last, no data and the file's time."""
        while True:
            name, number = _REQUEST.unpack(await self.stream.read_exactly(_REQUEST.size))
            if name == b"DONE":
                yield b"", number
                return
            yield await self.stream.read_exactly(number), 0

    async def _give_file(self, path: str) -> None:
        try:
            file = open(self._host(path), "rb")  # noqa: SIM115 - closed below
        except OSError as error:
            return await self._fail(f"open failed: {error.strerror}")
        with file:
            while data := file.read(CHUNK_BYTES):
                await self.stream.write(_REQUEST.pack(b"DATA", len(data)) + data)
        return await self.stream.write(_REQUEST.pack(b"DONE", 0))

    async def _fail(self, message: str) -> None:
        await self.stream.write(_REQUEST.pack(b"FAIL", len(message.encode())) + message.encode())

    def _host(self, path: str) -> Path:
        return Path(host_path(self.options, path))


async def _write_file(path: Path, mode: int, chunks: AsyncIterator[tuple[bytes, int]], limit_bytes: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(mode):
        target = b"".join([data async for data, _ in chunks])
        path.symlink_to(target.rstrip(b"\0").decode())
        return
    try:
        mtime_s = await _write_data(path, chunks, limit_bytes)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    path.chmod(mode & 0o777 | (EXECUTABLE_BITS if mode & EXECUTABLE_BITS else 0))
    os.utime(path, (mtime_s, mtime_s))


async def _write_data(path: Path, chunks: AsyncIterator[tuple[bytes, int]], limit_bytes: int | None) -> int:
    """Returns the time that came last."""
    mtime_s = 0
    with path.open("wb") as file:
        async for data, mtime_s in chunks:  # noqa: B007 - the last one counts
            if limit_bytes is not None and file.tell() + len(data) > limit_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.write(data)
    return mtime_s


def _stat(path: Path) -> tuple[int, int, int]:
    """Mode, size and time; zeros where there is no such file."""
    try:
        found = path.lstat()
    except OSError:
        return _NO_STAT
    return found.st_mode, found.st_size & _LOW_WORD, int(found.st_mtime)


def _stat_v2(path: Path, follow_links: bool) -> tuple[int, ...]:
    """The error number and ten fields."""
    try:
        found = path.stat(follow_symlinks=follow_links)
    except OSError as error:
        return error.errno or errno.EIO, *_NO_STAT_V2
    owner = found.st_mode, found.st_nlink, found.st_uid, found.st_gid
    times_s = int(found.st_atime), int(found.st_mtime), int(found.st_ctime)
    return 0, found.st_dev, found.st_ino, *owner, found.st_size, *times_s


def _listing(folder: Path, of_version_2: bool) -> bytes:
    names = [".", "..", *sorted(os.listdir(folder))] if folder.is_dir() else []
    if of_version_2:
        entries = (_ENTRY_V2.pack(b"DNT2", *_stat_v2(folder / name, False), len(os.fsencode(name))) for name in names)
        end = _ENTRY_V2.pack(b"DONE", *(0,) * 12)
    else:
        entries = (_ENTRY.pack(b"DENT", *_stat(folder / name), len(os.fsencode(name))) for name in names)
        end = _ENTRY.pack(b"DONE", *(0,) * 4)
    return b"".join(entry + os.fsencode(name) for entry, name in zip(entries, names, strict=True)) + end
