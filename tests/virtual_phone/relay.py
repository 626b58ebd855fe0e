"""The cable: a port of this machine, relayed to the phone's adbd, that can be pulled."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 18
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay:
    """Listens on ``port`` while it is plugged; ``dial`` gives a socket that is connected to the phone."""

    def __init__(self, port: int, dial: Callable[[], socket.socket]) -> None:
        self.port = port
        self._dial = dial
        self._reserved = _bound(port)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._left_bytes: int | None = None
        self._lock = threading.RLock()

    def plug(self) -> None:
        with self._lock:
            if self._listener is None:
                self._listener = _bound(self.port)
                self._listener.listen()
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def pull(self) -> None:
        """Cuts every connection and refuses new ones; the port stays taken."""
        with self._lock:
            self._left_bytes = None
            if self._listener is not None:
                _shut(self._listener)
                self._listener = None
            for end in self._open:
                _reset(end)
            self._open.clear()

    def pull_after(self, size_bytes: int) -> None:
        """Pulls when so many more bytes have gone through, both ways together."""
        with self._lock:
            self._left_bytes = size_bytes

    def close(self) -> None:
        self.pull()
        self._reserved.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connect(listener, listener.accept()[0])

    def _connect(self, listener: socket.socket, client: socket.socket) -> None:
        try:
            phone = self._dial()
        except OSError:
            client.close()
            return
        with self._lock:
            if self._listener is not listener:
                _reset(client)
                _reset(phone)
                return
            self._open |= {client, phone}
            for end in (client, phone):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((client, phone), (phone, client)):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if not self._may_pass(len(data)):
                    return
                target.sendall(data)
        for end in (source, target):
            _shut(end)
        with self._lock:
            self._open -= {source, target}

    def _may_pass(self, size_bytes: int) -> bool:
        """Pulls where not: at once, so that no other pump does it again after a plug."""
        with self._lock:
            if self._left_bytes is None:
                return True
            self._left_bytes -= size_bytes
            if self._left_bytes > 0:
                return True
            self.pull()
            return False


def _bound(port: int) -> socket.socket:
    """Taken, but refusing connections until it listens; several may be bound as long as one listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    _shut(end)


def _shut(end: socket.socket) -> None:
    """Wakes the thread that waits on it, too."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
