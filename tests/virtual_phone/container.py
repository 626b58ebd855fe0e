"""The phone's processes: adbd in private user, mount, network, process, host-name and time namespaces.

Run as a program of its own, with the standard library only: ``python container.py SPEC FD``. SPEC is JSON (``Spec`` of
``launch.py``); on the socket FD it answers one JSON request at a time. It ends all it started when the socket or adbd
ends; its mounts are of its namespace. What it imports must be imported at the start: later this machine's files are out
of its reach.

Requests: ``{"do": "dial"}`` answers with a socket that is connected to adbd; ``{"do": "fill", "free_bytes": N}`` makes
/data/local/tmp a file system with so much room.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import sys
import time
from typing import Any

NEW_MOUNTS, NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x10000000, 0x20000000, 0x40000000
NEW_HOST_NAME, NEW_IPC, NEW_TIME = 0x4000000, 0x8000000, 0x80
BIND, RECURSIVE, PRIVATE, REMOUNT, DETACH = 4096, 16384, 1 << 18, 32, 2
NO_SUID, NO_DEV, NO_EXEC = 2, 4, 8
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS, INTERFACE_UP_RUNNING = 0x8914, 65
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
ADBD_PORT = 5555
DIAL_TIMEOUT_S = 10.0
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
BINFMT = "proc/sys/fs/binfmt_misc"
AARCH64_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
AARCH64_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
MOUNTED_OVER = {"vendor/fake/cpuinfo": "proc/cpuinfo", "vendor/fake/boot_id": "proc/sys/kernel/random/boot_id"}
STORAGE = "/data/local/tmp"

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    spec, control = json.loads(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    enter_namespaces(NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK | NEW_HOST_NAME | NEW_IPC | NEW_TIME)
    init = os.fork()
    if init == 0:
        control.close()
        run_init(spec)
    try:
        serve(control, init)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)


def enter_namespaces(kinds: int) -> None:
    """As root of a user namespace that owns them; time starts anew."""
    become_user(0, os.getuid(), os.getgid(), kinds)
    write("/proc/self/timens_offsets", f"boottime -{int(time.clock_gettime(time.CLOCK_BOOTTIME))} 0")
    with socket.socket() as loopback:
        fcntl.ioctl(loopback, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", INTERFACE_UP_RUNNING))


def run_init(spec: dict[str, Any]) -> None:
    """Process 1 of the phone: mounts, starts adbd, buries orphans, and leaves when adbd leaves."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    mount_all(spec["root"], spec["emulator"])
    socket.sethostname("localhost")
    enter_root(spec["root"])
    adbd = os.fork()
    if adbd == 0:
        become_user(spec["uid"], 0, 0)
        program = [f"{spec['adbd']}/ld.so", "--library-path", spec["adbd"], f"{spec['adbd']}/adbd"]
        os.execve(program[0], program, {**spec["environment"], "ADBD_PORT": str(ADBD_PORT)})
    while True:
        pid, status = os.wait()
        if pid == adbd:
            os._exit(os.waitstatus_to_exitcode(status) & 255)


def mount_all(root: str, emulator: str) -> None:
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount(root, root, flags=BIND | RECURSIVE)
    mount("proc", f"{root}/proc", "proc", NO_SUID | NO_DEV | NO_EXEC)
    for name in DEVICES:
        mount(f"/dev/{name}", f"{root}/dev/{name}", flags=BIND)
    mount("devpts", f"{root}/dev/pts", "devpts", NO_SUID | NO_EXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("sdcard", f"{root}/sdcard", "tmpfs", NO_SUID | NO_DEV | NO_EXEC, "size=256m")
    if emulator:
        mount("binfmt_misc", f"{root}/{BINFMT}", "binfmt_misc")
        write(f"{root}/{BINFMT}/register", f":qemu-aarch64:M::{AARCH64_MAGIC}:{AARCH64_MASK}:{emulator}:FP")
    for source, target in MOUNTED_OVER.items():
        mount(f"{root}/{source}", f"{root}/{target}", flags=BIND)


def enter_root(root: str) -> None:
    """For this process and the one that answers requests: both had the old root."""
    os.chdir(root)
    check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", DETACH), "umount the old root")
    os.chdir("/")


def become_user(inside: int, outside_user: int, outside_group: int, more_kinds: int = 0) -> None:
    check(libc.unshare(NEW_USERS | more_kinds), "unshare")
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{inside} {outside_user} 1")
    write("/proc/self/gid_map", f"{inside} {outside_group} 1")


def serve(control: socket.socket, init: int) -> None:
    """Until the other end closes."""
    while request := control.recv(4096):
        answer = {"error": ""}
        descriptors: list[int] = []
        try:
            asked = json.loads(request)
            if asked["do"] == "dial":
                descriptors = [dial(init)]
            elif asked["do"] == "fill":
                fill_storage(asked["free_bytes"])
        except OSError as error:
            answer["error"] = str(error)
        socket.send_fds(control, [json.dumps(answer).encode()], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def dial(init: int) -> int:
    """Tries until adbd listens."""
    deadline_s = time.monotonic() + DIAL_TIMEOUT_S
    while True:
        connection = socket.socket()
        try:
            connection.connect(("127.0.0.1", ADBD_PORT))
            return connection.detach()
        except ConnectionRefusedError:
            connection.close()
            if os.waitid(os.P_PID, init, os.WEXITED | os.WNOHANG | os.WNOWAIT) or time.monotonic() > deadline_s:
                raise
        time.sleep(0.005)


def fill_storage(free_bytes: int) -> None:
    """What is there moves into the new file system."""
    mount("tmpfs", "/mnt", "tmpfs", NO_SUID | NO_DEV)
    shutil.copytree(STORAGE, "/mnt", symlinks=True, dirs_exist_ok=True)
    found = os.statvfs("/mnt")
    used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
    mount("tmpfs", "/mnt", "tmpfs", REMOUNT | NO_SUID | NO_DEV, f"size={used_bytes + free_bytes}")
    mount("/mnt", STORAGE, flags=BIND)
    check(libc.umount2(b"/mnt", DETACH), "umount /mnt")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [text.encode() if text else None for text in (source, target, kind, data)]
    check(libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {source} on {target}")


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
