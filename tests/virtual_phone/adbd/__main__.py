"""The fake device from the command line: ``python -m tests.virtual_phone.adbd --port 16010 --authorisation never``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from tests.virtual_phone.adbd import Faults, Options, open_adbd


def main(arguments: list[str] | None = None) -> None:
    asked = _parse(arguments)
    options = Options(asked.authorisation, tuple(shlex.split(asked.shell)), {}, asked.root, asked.free_bytes)
    faults = Faults(asked.drop_after_bytes, asked.packet_delay_s, asked.refuse)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with open_adbd(options, faults, asked.port) as adbd:
        print(f"connect with: adb connect {adbd.serial}", flush=True)
        signal.pause()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual_phone.adbd", description="a fake ADB device")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--authorisation", choices=("none", "never", "accept"), default="none")
    parser.add_argument("--shell", default="/bin/sh", help="what runs commands, before its -c")
    parser.add_argument("--root", type=Path, help="the folder that stands for the phone's /")
    parser.add_argument("--free-bytes", type=int, help="room for files")
    parser.add_argument("--drop-after-bytes", type=int, help="cut the connection once after so much payload")
    parser.add_argument("--packet-delay-s", type=float, default=0.0)
    parser.add_argument("--refuse", action="store_true", help="answer nothing: offline")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
