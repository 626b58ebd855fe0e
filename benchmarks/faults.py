"""What becomes of a profile run when things break: each fault at several moments, on a virtual phone with a real adbd.

The host is the command itself in a process of its own, the engine the fake one, so its rows are marked simulated. A
fault comes when the bundle is half sent ("install"), or when so much of the rows is stored ("pass 1", "pass 2"). An
operator that misbehaves does so at several places of the workload instead. Where the host ends before its work is done,
the command is repeated. Then the rows are counted, straight from the file.

    python -m benchmarks.faults [--moments 3] [--out docs/faults.md]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fault_trial import (
    HOME,
    OPERATORS,
    PASSES,
    Trial,
    await_moment,
    complete,
    doubled,
    lacking,
    row_ids,
    until,
)
from ops_catalog.sweep import Sweep, save_sweep
from tests.virtual_phone import state
from tests.virtual_phone.adb_server import AdbServer, open_adb_server
from tests.virtual_phone.adbd import Options, open_adbd
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import VirtualPhone, open_phone
from tests.virtual_phone.profiles import PROFILES

SETTING = "screen_off_timeout"


def waits(trial: Trial, host: subprocess.Popen[bytes]) -> None:
    """Until the host has noticed."""
    until(lambda: host.poll() is not None or "waiting" in trial.log.read_text())


def pull_cable(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    host = trial.start()
    await_moment(trial, phone, host)
    phone.pull_cable()
    waits(trial, host)
    phone.plug_cable()
    trial.finished(host)


def pull_cable_for_good(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    host = trial.start(patience_min=0.02)
    await_moment(trial, phone, host)
    phone.pull_cable()
    trial.finished(host)
    phone.plug_cable()
    server.wait_for(phone.serial)


def reboot(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    host = trial.start()
    await_moment(trial, phone, host)
    phone.reboot(complete=False)
    waits(trial, host)
    phone.complete_boot()
    trial.finished(host)


def kill_server(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    host = trial.start()
    await_moment(trial, phone, host)
    server.adb("kill-server")
    trial.finished(host)


def kill_agent(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    def agents() -> list[int]:
        return [pid for pid, command in phone.processes().items() if "-m agent" in command]

    host = trial.start()
    await_moment(trial, phone, host)
    until(lambda: host.poll() is not None or agents())
    for agent in agents():
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)
    trial.finished(host)


def fail_with(fail: str) -> Callable[[Trial, VirtualPhone, AdbServer], None]:
    def run(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
        trial.how |= {"fail": fail, "culprit": OPERATORS[int(trial.at * (len(OPERATORS) - 1))].key}
        trial.finished(trial.start())
        trial.before = row_ids(trial.db)

    return run


def fill_storage(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    """With room for half of the bundle, or for a few models."""
    if trial.at == 0:
        phone.fill_storage(60_000_000)
        trial.finished(trial.start())
    else:
        host = trial.start()
        await_moment(trial, phone, host)
        phone.fill_storage(8192)
        trial.finished(host)
    phone.reboot()
    server.wait_for(phone.serial)


def kill_host(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    usual = phone.setting(SETTING, "system")
    host = trial.start()
    await_moment(trial, phone, host)
    host.kill()
    trial.finished(host)
    until(lambda: phone.setting(SETTING, "system") == usual)


def second_host(shared: bool) -> Callable[[Trial, VirtualPhone, AdbServer], None]:
    def run(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
        host = trial.start()
        await_moment(trial, phone, host)
        host.send_signal(signal.SIGSTOP)
        second = trial.start(trial.db if shared else trial.folder / "other.db")
        trial.finished(second)
        host.send_signal(signal.SIGCONT)
        trial.finished(host)

    return run


def unauthorise(trial: Trial, phone: VirtualPhone, server: AdbServer) -> None:
    """On the fake adbd: between two runs, and within one, it forgets this computer's key."""
    root = trial.folder / "phone"
    state.build_folder(root, PROFILES["twocore"], serialno="VFAKE0001")
    trial.how |= {"home": str(trial.folder / "chamnet"), "python": sys.executable}
    environment = {"PATH": f"{root}/system/bin:{os.environ['PATH']}"}
    host = None
    with open_adbd(Options(root=root, environment=environment)) as adbd:
        trial.serial = adbd.serial
        if trial.at > 0:
            server.connect(adbd.serial)
            host = trial.start(patience_min=0.02)
            await_moment(trial, None, host)
    with open_adbd(Options("ask", root=root, environment=environment), port=adbd.port) as adbd:
        if host is None:
            server.connect(adbd.serial)
            host = trial.start(patience_min=0.02)
        trial.finished(host)
        adbd.allow_key()
        server.wait_for(adbd.serial)
        complete(trial)
        server.disconnect(adbd.serial)


FAULTS: dict[str, Callable[[Trial, VirtualPhone, AdbServer], None]] = {
    "cable pulled and plugged again": pull_cable,
    "cable pulled for good": pull_cable_for_good,
    "phone restarts": reboot,
    "ADB server killed": kill_server,
    "agent killed from outside": kill_agent,
    "operator ends the agent (segmentation fault)": fail_with("crash"),
    "operator hangs": fail_with("hang"),
    "storage of the phone full": fill_storage,
    "phone not authorised": unauthorise,
    "host killed with kill -9": kill_host,
    "second host, same database": second_host(True),
    "second host, other database": second_host(False),
}


@contextlib.contextmanager
def prepared(at: float, phone: VirtualPhone, server: AdbServer) -> Iterator[Trial]:
    """A phone without anything of ours, and a folder for the run."""
    phone.reboot()
    subprocess.run(["rm", "-rf", str(phone.root / HOME)], check=True)
    if not server.state(phone.serial):
        server.connect(phone.serial)
    server.wait_for(phone.serial)
    with tempfile.TemporaryDirectory(prefix="chamnet-faults-", ignore_cleanup_errors=True) as folder:
        save_sweep(Path(folder) / "ops.json", Sweep(OPERATORS))
        yield Trial(at, phone.serial, Path(folder))


def row_of(name: str, moments: list[float], phone: VirtualPhone) -> tuple[str, list[str]]:
    """A line of the table, and what was told."""
    ends: Counter[str] = Counter()
    told: list[str] = []
    lost = twice = few = 0
    for at in moments:
        with open_adb_server() as server, prepared(at, phone, server) as trial:
            FAULTS[name](trial, phone, server)
            repeats = complete(trial)
            ends[outcome(trial)] += 1
            told += trial.told
            lost += len(trial.before - row_ids(trial.db))
            twice += doubled(trial)
            few += lacking(trial)
            print(f"{name} at {at:.2f}: {trial.ends}, repeated {repeats} times, {trial.told}", file=sys.stderr)
            server.adb("kill-server")
    ways = "; ".join(f"{way}{f' ({count} of {len(moments)})' if len(ends) > 1 else ''}" for way, count in ends.items())
    return f"| {name} | {len(moments)} | {ways} | {lost} | {twice} | {few} |", told


def outcome(trial: Trial) -> str:
    """How the host ended, or both, the second first."""
    *others, status = trial.ends
    way = {
        0: "went on by itself, exit status 0",
        3: "went on by itself, operator named, exit status 3",
        -signal.SIGKILL: "resumed by repeating the command",
    }.get(status, f"one line, exit status {status}; resumed by repeating the command")
    return "; ".join([*(f"second refused in one line, exit status {other}" for other in others), way])


def masked(line: str) -> str:
    """Without what differs from run to run."""
    line = re.sub(r"127\.0\.0\.1:\d+", "SERIAL", line)
    line = re.sub(r"process \d+ on \S+", "process PID on HOST", line)
    return re.sub(r"(relu\S+|models-\w+|bundle-\w+)", lambda found: found[0].split("-")[0], line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=3, help="at which each fault is injected, 3 or more")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    arguments = parser.parse_args()
    if reason := missing("x86_64"):
        sys.exit(reason)
    later = max(2, arguments.moments - 1)
    moments = [0.0, *((2 * number + 1) / (2 * later) for number in range(later))]
    lines, told = [], []
    with open_phone("x86_64", "twocore") as phone:
        for name in FAULTS:
            if arguments.only in name:
                line, said = row_of(name, moments, phone)
                lines.append(line)
                told += said
    text = page(moments, lines, told)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def page(moments: list[float], lines: list[str], told: list[str]) -> str:
    parts = ", ".join("while the bundle is sent" if at == 0 else f"at {100 * at:.0f} % of the rows" for at in moments)
    messages = "\n".join(f"    {line}" for line in dict.fromkeys(map(masked, told)))
    table = "\n".join(lines)
    return f"""\
# What breaks, and what becomes of the run

Written by `python -m benchmarks.faults --out docs/faults.md`: a virtual phone (real adbd, x86_64), {len(OPERATORS)} \
operators of the fake engine, {PASSES} passes each, so {PASSES * len(OPERATORS)} rows; nothing of it is a measurement \
of a real phone. Each fault comes {parts}. An operator that misbehaves stands at the beginning, within, and near the \
end of the workload instead; "not authorised" is a fake adbd that forgets this computer's key before the run and in \
it. A host that was killed is not repeated before the phone has its settings back.

Lost: stored when the fault came, and not there at the end. Doubled: clean passes beyond those asked for. Too few: \
operators that lack a clean pass at the end, those aside that were named as impossible to measure.

| fault | moments | how it ended | rows lost | rows doubled | operators with too few passes |
|---|---|---|---|---|---|
{table}

What was told, in one line each:

{messages}
"""


if __name__ == "__main__":
    main()
