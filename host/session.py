"""One life of an agent: start it, ask, wait with a limit, and tell a crash from a hang.

Does not decide what to do about a death: ``profile`` does (``AgentDied.suspects`` says who may have caused it).
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from agent import protocol
from agent.protocol import Done, Energise, Energised, Failure, Hello, Look, Measure, Measured, Message, Opening
from host.errors import DeviceUnavailable, HostError
from host.transport import ENDED_BY_DEVICE, DeviceLost, Transport

HELLO_LIMIT_S = 60.0
ANSWER_LIMIT_S = 60.0
"""Longest silence before the agent counts as hung; a batch is measured in seconds, a model opens in less."""


class AgentDied(HostError):
    """The agent ended or fell silent during a request.

    Attributes:
        suspects: ids of the models, one of which did it.
        reason: crash, hang, or lost where the device vanished with it each time.
    """

    def __init__(self, reason: str, message: str, suspects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.suspects = tuple(suspects)


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to one Measure."""

    measured: tuple[Measured, ...]
    failures: tuple[Failure, ...]
    done: Done


@dataclass(frozen=True, slots=True)
class MeteredBatch:
    """The answer to one Energise."""

    energised: tuple[Energised, ...]
    failures: tuple[Failure, ...]
    done: Done

    @property
    def only(self) -> Energised | str:
        """The windows of the only model, or why there are none."""
        return self.energised[0] if self.energised else self.failures[0].message

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of a meter that was read without models: ``agent.meters.MeterFacts``."""
        return self.energised[0].facts


@dataclass(slots=True)
class _Answers:
    opened: list[str] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    energised: list[Energised] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class AgentSession:
    """A running agent and its greeting; use it as a context manager.

    Raises:
        DeviceUnavailable: the agent does not start or speaks another protocol.
        DeviceLost: the connection to the device broke; so may every request.
    """

    def __init__(
        self, transport: Transport, cpus: Sequence[int], environment: Mapping[str, str], hold: bool = False
    ) -> None:
        """With ``hold`` the agent keeps a phone awake, and puts its settings back at the end."""
        arguments = [*(["--cpus", ",".join(map(str, cpus))] if cpus else []), *(["--hold"] if hold else [])]
        self._channel = transport.spawn_agent(arguments, environment)
        self._inbox: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self._greet()

    def __enter__(self) -> AgentSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def abandon(self) -> None:
        """Lets go of an agent that is out of reach: it ends with its connection."""
        self._channel.abandon()

    def look(self) -> Mapping[str, Any]:
        """The conditions on the device now."""
        return self._ask(Look()).before

    def clock(self) -> int:
        """What the clock shows there that windows and readings are timed by, in ns."""
        return int(self._ask(Look(clock_only=True)).before["time_ns"])

    def measure(self, request: Measure, limit_s: float = ANSWER_LIMIT_S) -> Batch:
        """Raises AgentDied; whatever it had measured by then is discarded with its batch."""
        answers, done = self._answers(request, limit_s)
        return Batch(tuple(answers.measured), tuple(answers.failures), done)

    def energise(self, request: Energise, limit_s: float, began: Callable[[], None] = lambda: None) -> MeteredBatch:
        """Raises AgentDied, and HostError where the meter does not open.

        Args:
            limit_s: for one model, all windows included.
            began: is called for each model before it is loaded; without models once readings are taken.
        """
        answers, done = self._answers(request, limit_s, began)
        return MeteredBatch(tuple(answers.energised), tuple(answers.failures), done)

    def _answers(
        self, request: Measure | Energise, limit_s: float, began: Callable[[], None] = lambda: None
    ) -> tuple[_Answers, Done]:
        self._send(request)
        answers = _Answers()
        while True:
            message = self._next(limit_s, _suspects(request, answers))
            if isinstance(message, Opening):
                answers.opened.append(message.id)
                began()
            elif isinstance(message, Measured):
                answers.measured.append(message)
            elif isinstance(message, Energised):
                answers.energised.append(message)
            elif isinstance(message, Failure):
                _raise_if_whole(message)
                answers.failures.append(message)
            elif isinstance(message, Done):
                return answers, message

    def optimise(self, engine: str, options: Mapping[str, Any], path: str, into_path: str) -> None:
        """Raises HostError where the engine cannot load the model, AgentDied where it dies of it."""
        self._ask(protocol.Optimise(engine, dict(options), path, into_path))

    def run(self, engine: str, options: Mapping[str, Any], path: str, inputs_path: str, outputs_path: str) -> None:
        """Runs a model once; arrays travel as .npz files on the device."""
        self._ask(protocol.Run(engine, dict(options), path, inputs_path, outputs_path))

    def _ask(self, request: Message) -> Done:
        self._send(request)
        message = self._next(ANSWER_LIMIT_S, ())
        if isinstance(message, Failure):
            raise HostError(message.message)
        if not isinstance(message, Done):
            raise HostError(f"the agent must answer with its outcome, but it sent {message}")
        return message

    def _greet(self) -> Hello:
        try:
            message = self._next(HELLO_LIMIT_S, ())
        except AgentDied as death:
            raise DeviceUnavailable(
                f"the agent must start, but {death}; its last words: {self._last_words()}"
            ) from None
        if not isinstance(message, Hello) or message.version != protocol.VERSION:
            self.close()
            raise DeviceUnavailable(f"the agent must greet in protocol {protocol.VERSION}, but it sent {message}")
        return message

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(protocol.encode(message))
        except OSError:
            raise self._death("crash", ()) from None

    def _next(self, limit_s: float, suspects: Sequence[str]) -> Message:
        try:
            message = self._inbox.get(timeout=limit_s)
        except queue.Empty:
            if self._let_go(self._channel.lost()):
                raise _lost() from None
            raise AgentDied("hang", f"the agent said nothing for {limit_s:.0f} s", suspects) from None
        if message is None:
            raise self._death("crash", suspects)
        return message

    def _death(self, reason: str, suspects: Sequence[str]) -> HostError:
        status = self._channel.exit_status()
        if self._let_go(status in ENDED_BY_DEVICE or self._channel.lost()):
            return _lost()
        return AgentDied(reason, f"the agent ended with {_describe(status)}", suspects)

    def _let_go(self, lost: bool) -> bool:
        """Of a device that is out of reach nothing more is asked; returns whether it is."""
        if lost:
            self._channel.abandon()
        else:
            self._channel.kill()
        return lost

    def _read(self) -> None:
        try:
            for line in self._channel.lines():
                self._inbox.put(protocol.decode(line))
        except (ValueError, OSError):
            pass
        self._inbox.put(None)

    def _last_words(self) -> str:
        lines = self._channel.stderr_tail().strip().splitlines()
        return lines[-1] if lines else "none"


def _raise_if_whole(failure: Failure) -> None:
    """Raises DeviceLost, DeviceUnavailable or HostError for a failure that is not of one model alone."""
    if failure.reason == "lost":
        raise DeviceLost(failure.message)
    if failure.id is None and failure.reason == "fallback":
        raise DeviceUnavailable(
            f"the accelerator must run the operator that all are compared with, but it {failure.message}; "
            "docs/dsp.md tells what others met"
        )
    if failure.id is None and failure.reason == "meter":
        raise DeviceUnavailable(f"the meter must be readable, but {failure.message}")
    if failure.id is None:
        raise HostError(f"the agent must accept the request, but it answered: {failure.message}")


def _suspects(request: Measure | Energise, answers: _Answers) -> tuple[str, ...]:
    """While models are being opened only the newest can be at fault; afterwards all that opened can."""
    done = {reply.id for reply in answers.measured} | {reply.id for reply in answers.energised}
    answered = done | {failure.id for failure in answers.failures}
    opened = answers.opened if len(answers.opened) == len(request.models) else answers.opened[-1:]
    return tuple(id for id in opened if id not in answered)


def _lost() -> DeviceLost:
    return DeviceLost("the device must stay connected, but its connection broke or it ended the agent")


def _describe(status: int | None) -> str:
    if status is None:
        return "no exit status"
    if status >= 0:
        return f"exit status {status}"
    known = {known.value: known.name for known in signal.Signals}
    return f"signal {known.get(-status, -status)}"
