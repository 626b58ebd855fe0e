"""What the phone says of itself, as files that a test may read and change while it runs.

Under /vendor/fake: properties and settings (a file each), the services that dumpsys and cmd reach, and ``calls``, the
commands that were given. Files are written in place, since some are mounted over others.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.virtual_phone import sysfs
from tests.virtual_phone.profiles import Profile, properties_of

COMMANDS = Path(__file__).with_name("commands")
FAKE = "vendor/fake"
SETTINGS = {
    "global": {"stay_on_while_plugged_in": "0", "airplane_mode_on": "0", "wifi_on": "1", "bluetooth_on": "1"},
    "system": {"screen_brightness": "102", "screen_brightness_mode": "1", "screen_off_timeout": "60000"},
    "secure": {"android_id": "5ca1ab1e0ddba11"},
}
NETWORK = {
    "ip_addr": "24: wlan0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500\n    inet 192.0.2.23/24 scope global wlan0",
    "ip_route": "192.0.2.0/24 dev wlan0 proto kernel scope link src 192.0.2.23",
}
DISCHARGING_UA = -450_000


def write_state(root: Path, profile: Profile, abi: str, serialno: str) -> None:
    """Everything that a new phone says."""
    for name in ("properties", "services", "battery_frozen", *(f"settings/{space}" for space in SETTINGS)):
        (root / FAKE / name).mkdir(parents=True, exist_ok=True)
    for space, settings in SETTINGS.items():
        for key, value in settings.items():
            write_text(root, f"{FAKE}/settings/{space}/{key}", value)
    for name, text in {"screen": "on", "thermal_status": "0", "calls": "", **NETWORK}.items():
        write_text(root, f"{FAKE}/{name}", text)
    write_profile(root, profile, abi, serialno)


def write_profile(root: Path, profile: Profile, abi: str, serialno: str) -> None:
    """Takes on another chip; settings stay."""
    for folder in (sysfs.CPU, sysfs.THERMAL, sysfs.SUPPLY, sysfs.SOC, f"{FAKE}/properties"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for path, text in sysfs.sysfs_of(profile).items():
        write_text(root, path, text)
    for path, target in sysfs.links_of(profile).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for name, value in properties_of(profile, abi, serialno).items():
        write_text(root, f"{FAKE}/properties/{name}", value)
    for source, current_ua in (("charging", sysfs.CHARGING_UA), ("discharging", DISCHARGING_UA)):
        write_text(root, f"{FAKE}/current_{source}", sysfs.battery_current(profile, current_ua))
    write_text(root, f"{FAKE}/honours_input_suspended", "")
    write_text(root, sysfs.CPUINFO, sysfs.cpuinfo_of(profile))


def write_commands(root: Path, on_this_machine: bool = False) -> None:
    """Android's commands as scripts; ``on_this_machine`` with its own shell and the folder's paths."""
    for script in (path for path in COMMANDS.rglob("*") if path.is_file()):
        in_services = script.parent.name == "services"
        target = root / (f"{FAKE}/services" if in_services else "system/bin") / script.name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = script.read_text()
        target.write_text(_for_this_machine(text, root) if on_this_machine else text)
        target.chmod(0o755)


def write_text(root: Path, path: str, text: str) -> None:
    """One file, in place, with the newline that the kernel's files have."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{text}\n" if text else "")


def build_folder(root: Path, profile: Profile, abi: str = "arm64-v8a", serialno: str = "VPHONE0001") -> None:
    """A folder that stands for a phone on this machine itself, for the fake adbd: its state and Android's commands.

    Shells need ``{root}/system/bin`` first on their PATH.
    """
    (root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
    write_state(root, profile, abi, serialno)
    write_commands(root, on_this_machine=True)


def _for_this_machine(script: str, root: Path) -> str:
    paths = script.replace("#!/system/bin/sh", "#!/bin/sh").replace("/vendor/fake", f"{root}/vendor/fake")
    return paths.replace("/sys/", f"{root}/sys/").replace("toybox taskset", "/usr/bin/taskset")
