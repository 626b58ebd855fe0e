"""``chamnet bundle``: build, lock and show the hermetic bundle for devices without Python."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from host import show
from host.bundle import Bundle, build_bundle, cached_bundle
from host.bundle_lock import ABIS, LOCK, load_lock, lock_bundle, save_lock
from host.cli_options import Json

app: typer.Typer = typer.Typer(no_args_is_help=True, help="The bundle for devices without Python: build, lock, show.")

Mirror = Annotated[str, typer.Option(help="Debian archive to fetch from; this machine's own if not given")]


@app.command("build")
def build_command(
    abi: Annotated[str, typer.Option(help=f"one of {', '.join(ABIS)}")] = "arm64-v8a",
    out: Annotated[Path | None, typer.Option(help="also copy the tar here")] = None,
    mirror: Mirror = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Build the bundle and keep it in the cache."""
    with show.progress("bundle") as bar:
        bundle = build_bundle(abi, mirror=mirror, tell=bar.tell)
    if out is not None:
        shutil.copyfile(bundle.path, out)
    if as_json:
        print(json.dumps(_described(bundle, out), indent=1))
        return
    for note in bundle.notes:
        show.errors.print(f"[yellow]note[/] {note}", highlight=False)
    show.output.print(f"{out or bundle.path}", highlight=False, soft_wrap=True)
    show.output.print(f"{bundle.abi}, {bundle.size_bytes / 1e6:.1f} MB, sha256 {bundle.digest}", highlight=False)


@app.command("lock")
def lock_command(mirror: Mirror = "") -> None:
    """Take the versions that the mirror and pip's index have now."""
    before = load_lock() if LOCK.is_file() else None
    with show.progress("lock") as bar:
        lock = lock_bundle(mirror, bar.tell)
    save_lock(lock)
    for abi, parts in lock.parts.items():
        known = before.parts[abi].versions if before else {}
        for name, version in parts.versions.items():
            if known.get(name) != version:
                show.output.print(f"{abi} {name}: {known.get(name, 'new')} -> {version}", highlight=False)
    show.errors.print(f"{LOCK}: lock {lock.digest[:12]}", highlight=False, soft_wrap=True)


@app.command("show")
def show_command(as_json: Json = False) -> None:
    """Show what the bundles are made from, and which of them are built."""
    lock, built = load_lock(), {abi: cached_bundle(abi) for abi in ABIS}
    if as_json:
        bundles = {abi: _described(bundle) if bundle else None for abi, bundle in built.items()}
        versions = {abi: parts.versions for abi, parts in lock.parts.items()}
        print(json.dumps({"suite": lock.suite, "lock": lock.digest, "versions": versions, "built": bundles}, indent=1))
        return
    table = Table(title=f"Debian {lock.suite}, lock {lock.digest[:12]}", title_justify="left")
    for heading in ("package", *ABIS):
        table.add_column(heading, overflow="fold")
    for name in sorted({name for parts in lock.parts.values() for name in parts.versions}):
        table.add_row(name, *(parts.versions.get(name, "") for parts in lock.parts.values()))
    show.output.print(table)
    for abi, bundle in built.items():
        text = f"{bundle.size_bytes / 1e6:.1f} MB, {bundle.path}" if bundle else "not built"
        show.output.print(f"{abi}: {text}", highlight=False, soft_wrap=True)


def _described(bundle: Bundle, out: Path | None = None) -> dict[str, object]:
    return {**asdict(bundle), "path": str(out or bundle.path)}
