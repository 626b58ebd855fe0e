"""One virtual phone until Ctrl-C: ``make phone``, or ``python -m tests.virtual_phone --soc snapdragon835``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys

from tests.virtual_phone.adb_server import AdbServer, open_adb_server
from tests.virtual_phone.availability import missing
from tests.virtual_phone.packages import ABIS
from tests.virtual_phone.phone import VirtualPhone, open_phone
from tests.virtual_phone.profiles import PROFILES

UNAVAILABLE = 4


def main(arguments: list[str] | None = None) -> int:
    asked = _parse(arguments)
    if reason := missing(asked.abi):
        print(reason, file=sys.stderr)
        return UNAVAILABLE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_adb_server() as server,
        open_phone(asked.abi, asked.soc, qemu_cpu=asked.qemu_cpu, port=asked.port) as phone,
    ):
        print(_instructions(server, phone, server.connect(phone.serial)), flush=True)
        while True:
            signal.pause()
    return 0


def _instructions(server: AdbServer, phone: VirtualPhone, connected: str) -> str:
    return f"""\
{phone.profile.model} ({phone.abi}, Android {phone.profile.release}): {connected}
its files: {phone.root}
in another shell:
    export ANDROID_ADB_SERVER_PORT={server.port}
    chamnet profile --device adb:{phone.serial} --engine onnxruntime
    {server.adb_path} -s {phone.serial} shell
Ctrl-C ends it"""


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual_phone", description="a virtual phone on ADB")
    parser.add_argument("--abi", choices=list(ABIS), default="arm64-v8a", help="x86_64 is native, and fast")
    parser.add_argument("--soc", choices=list(PROFILES), default="snapdragon8gen2")
    parser.add_argument("--qemu-cpu", default="", help="the emulated processor, such as cortex-a53")
    parser.add_argument("--port", type=int, default=0, help="of this machine; a free one by itself")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
