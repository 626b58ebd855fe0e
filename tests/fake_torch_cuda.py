"""What the CUDA engine asks of ``torch.cuda``, with tensors on the CPU and a clock that only the model moves."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class FakeGpu:
    """A GPU on which a call lasts ``call_ns`` and a launch costs ``launch_ns`` more; replays cost one launch.

    Attributes:
        log: what happened, in order: warm-up, capture, replay, call, empty_cache.
        pools: what each capture took its memory from.
        used: identity of the first argument of every call, launched or captured.
        held: that of the call which failed, the ``fails_at``-th.
    """

    def __init__(self, call_ns: int = 50_000, launch_ns: int = 5_000, l2_bytes: int = 0, fails_at: int = -1) -> None:
        self.call_ns, self.launch_ns, self.l2_bytes, self.fails_at = call_ns, launch_ns, l2_bytes, fails_at
        self.free_bytes = 8 << 30
        self.now_ns = 0
        self.log: list[str] = []
        self.pools: list[object] = []
        self.used: list[int] = []
        self.held: weakref.ref[Any] | None = None
        self._capturing: Any = None
        self._on_side = False
        self._calls = 0

    def wrap(self, program: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self._called(arguments)
            outputs = program.call(*arguments)
            if self._capturing is not None:
                self._capturing.calls.append((arguments, outputs))
            return outputs

        self._call = program.call
        return program._replace(call=call)

    def _called(self, arguments: Any) -> None:
        if self._calls == self.fails_at:
            self.held = weakref.ref(arguments[0])
            raise OutOfMemory("CUDA out of memory")
        self._calls += 1
        self.used.append(id(arguments[0]))
        if self._capturing is not None:
            return
        self.log.append("warm-up" if self._on_side else "call")
        self.now_ns += self.call_ns + self.launch_ns

    def stand_in(self) -> dict[str, Any]:
        """By name, what replaces attributes of ``torch.cuda``."""
        import torch

        gpu = self

        class Graph:
            """Its last call is really made again when it is replayed, into the same outputs."""

            def __init__(self) -> None:
                self.calls: list[tuple[Any, Any]] = []

            def capture_begin(self, pool: object) -> None:
                assert gpu._on_side
                assert gpu._capturing is None
                gpu.pools.append(pool)
                gpu._capturing = self

            def capture_end(self) -> None:
                gpu._capturing = None
                gpu.log.append(f"capture {len(self.calls)}")

            def replay(self) -> None:
                gpu.log.append(f"replay {len(self.calls)}")
                gpu.now_ns += gpu.launch_ns + len(self.calls) * gpu.call_ns
                arguments, outputs = self.calls[-1]
                with torch.inference_mode():
                    for output, again in zip(outputs, gpu._call(*arguments), strict=True):
                        output.copy_(again)

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                assert enable_timing
                self.at_ns = -1

            def record(self) -> None:
                self.at_ns = gpu.now_ns

            def synchronize(self) -> None:
                assert self.at_ns >= 0

            def elapsed_time(self, end: Event) -> float:
                return (end.at_ns - self.at_ns) / 1e6

        @contextmanager
        def stream(side: Any) -> Iterator[None]:
            gpu._on_side = True
            try:
                yield
            finally:
                gpu._on_side = False

        return {
            "CUDAGraph": Graph,
            "Event": Event,
            "OutOfMemoryError": OutOfMemory,
            "Stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
            "current_device": lambda: 0,
            "current_stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
            "empty_cache": lambda: gpu.log.append("empty_cache"),
            "get_device_properties": lambda device: SimpleNamespace(L2_cache_size=gpu.l2_bytes),
            "graph_pool_handle": object,
            "mem_get_info": lambda: (gpu.free_bytes, 16 << 30),
            "stream": stream,
            "synchronize": lambda: None,
        }


class OutOfMemory(RuntimeError):
    """torch.cuda.OutOfMemoryError."""
