"""The phone's programs: an Android-like tree of real mksh, toybox and adbd, prepared once per ABI.

The phone has no glibc that others could use: toybox and adbd carry loaders and libraries of their own. What Debian's
toybox lacks (tr, dd, ...) busybox gives. The phone's own words and numbers are in ``state.py``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_phone.packages import Abi, Parts, cache_folder, fetched_parts

FOLDERS = (
    "system/bin", "system/etc", "system/lib64", "vendor/bin", "product/bin", "odm", "apex", "data/local/tmp", "sdcard",
    "proc", "sys", "dev/pts", "mnt", "acct", "config",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"bin": "/system/bin", "etc": "/system/etc", "dev/ptmx": "pts/ptmx", "dev/fd": "/proc/self/fd"}
TOYBOX_HOME = "/system/lib64/.toybox"
BUSYBOX = "/system/lib64/.busybox/busybox"
ADBD_HOME = "apex/com.android.adbd"
FILES = {
    "system/etc/passwd": "root:x:0:0::/:/system/bin/sh\nshell:x:2000:2000::/data/local/tmp:/system/bin/sh\n",
    "system/etc/group": "root:x:0:\nshell:x:2000:\n",
    "system/etc/hosts": "127.0.0.1 localhost\n",
}
TOYBOX_COMMANDS = """
    [ base64 basename cal cat chgrp chmod chown chrt cksum clear cmp comm cp cpio cut date df dirname dmesg du echo
    egrep env expand factor fallocate false fgrep file find flock fmt free getconf grep groups gunzip head help
    hostname iconv id ionice iorenice kill killall ln logname losetup ls lsattr lsmod md5sum mkdir mkfifo mknod
    mktemp mount mountpoint mv nice nl nohup nproc nsenter od paste patch pgrep pidof pkill pmap printenv printf
    prlimit ps pwd pwdx readelf readlink realpath renice rev rm rmdir sed seq setsid sha1sum sha224sum sha256sum
    sha384sum sha512sum sleep sort split stat strings sync sysctl tac tail tar tee test time timeout top touch true
    truncate tty ulimit umount uname uniq unlink unshare uptime usleep uudecode uuencode uuidgen vmstat wc which who
    whoami xargs xxd yes zcat
"""
BUSYBOX_COMMANDS = "dd diff expr gzip tr"


@dataclass(frozen=True, slots=True)
class Programs:
    """A prepared tree, to be copied, and the emulator that runs it; None where this machine runs it by itself."""

    root: Path
    emulator: Path | None


def prepare_programs(abi: Abi) -> Programs:
    """The tree of that ABI, from the cache where it was prepared before; delete the cache's folder to renew it.

    Raises:
        HostError: the packages cannot be fetched.
    """
    cache = cache_folder()
    prepared = cache / f"{abi.name}-{_recipe()}"
    if not prepared.is_dir():
        _prepare(abi, cache, prepared)
    return Programs(prepared / "root", prepared / "qemu-aarch64" if abi.needs_emulator else None)


def _recipe() -> str:
    """Changes with the code that prepares."""
    sources = [Path(__file__), Path(__file__).with_name("packages.py")]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _prepare(abi: Abi, cache: Path, prepared: Path) -> None:
    """Under another name, renamed when it is complete: another process may prepare the same."""
    with fetched_parts(abi, cache) as parts, tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as folder:
        complete = Path(folder) / "complete"
        _build_tree(abi, parts, complete / "root")
        if parts.emulator:
            shutil.copy2(parts.emulator, complete / "qemu-aarch64")
        try:
            complete.rename(prepared)
        except OSError:
            if not prepared.is_dir():
                raise


def _build_tree(abi: Abi, parts: Parts, root: Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for name in DEVICES:
        (root / "dev" / name).touch()
    for name, text in FILES.items():
        (root / name).write_text(text)
    _add_shell(abi, parts, root)
    _add_toybox(abi, parts, root)
    _add_busybox(parts, root)
    _add_adbd(parts, root)


def _add_shell(abi: Abi, parts: Parts, root: Path) -> None:
    """The one that needs no library."""
    shutil.copy2(parts.userland / "usr/lib" / abi.musl_triple / "bin/mksh", root / "system/bin/mksh")
    (root / "system/bin/sh").symlink_to("mksh")


def _add_toybox(abi: Abi, parts: Parts, root: Path) -> None:
    home, program = root / TOYBOX_HOME.lstrip("/"), root / "system/bin/toybox"
    libraries = parts.userland / "usr/lib" / abi.triple
    home.mkdir()
    shutil.copy2(parts.userland / "usr/bin/toybox", program)
    for name in {*_patchelf(parts, "--print-needed", str(program)).split(), abi.loader}:
        shutil.copy2((libraries / name).resolve(), home / name)
    _patchelf(parts, "--set-interpreter", f"{TOYBOX_HOME}/{abi.loader}", "--set-rpath", TOYBOX_HOME, str(program))
    _link_commands(root, "toybox", TOYBOX_COMMANDS)


def _add_busybox(parts: Parts, root: Path) -> None:
    program = root / BUSYBOX.lstrip("/")
    program.parent.mkdir()
    shutil.copy2(parts.userland / "usr/bin/busybox", program)
    _link_commands(root, BUSYBOX, BUSYBOX_COMMANDS)


def _add_adbd(parts: Parts, root: Path) -> None:
    """Of this machine's architecture, whatever the phone's: only what it starts is the phone's."""
    home, libraries = root / ADBD_HOME, parts.tools / "usr/lib/x86_64-linux-gnu"
    home.mkdir()
    shutil.copy2(parts.tools / "usr/lib/android-sdk/platform-tools/adbd", home / "adbd")
    shutil.copy2((libraries / "ld-linux-x86-64.so.2").resolve(), home / "ld.so")
    for library in (*libraries.glob("*.so*"), *(libraries / "android").glob("*.so*")):
        shutil.copy2(library.resolve(), home / library.name)


def _link_commands(root: Path, program: str, commands: str) -> None:
    for command in commands.split():
        (root / "system/bin" / command).symlink_to(program)


def _patchelf(parts: Parts, *arguments: str) -> str:
    """Run by its own loader: it may need a newer C library than this machine has."""
    libraries = parts.tools / "usr/lib/x86_64-linux-gnu"
    loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    command = [*loader, str(parts.tools / "usr/bin/patchelf"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
