"""Debian packages as files, against a mirror on this machine."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from host import debian
from host.debian import Package, VanishedPackage, closure, fetch, mirror_url, read_index, unpack
from host.errors import HostError

ADDRESS = "http://127.0.0.1/debian"


@dataclass(frozen=True)
class Mirror:
    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    folder, asked = tmp_path / "mirror", list[str]()
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Mirror(f"http://127.0.0.1:{server.server_address[1]}", folder, asked)
    server.shutdown()
    server.server_close()


def data_tar(mode: str, *members: tarfile.TarInfo, content: bytes = b"content") -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode) as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return written.getvalue()


def member(name: str, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = mode
    if link:
        made.type, made.linkname = tarfile.SYMTYPE, link
    return made


def write_deb(path: Path, name: str, data: bytes) -> Path:
    content = b"!<arch>\n"
    for entry, body in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, data)):
        content += f"{entry:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body
        content += b"\n" * (len(body) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def publish(mirror: Mirror, content: bytes = b"a package") -> Package:
    filename = "pool/main/h/hello_1.0_arm64.deb"
    path = mirror.folder / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Package("hello", "1:1.0", "arm64", filename, hashlib.sha256(content).hexdigest(), len(content))


def stanza(name: str, **fields: str) -> str:
    lines = {"Package": name, "Version": "1", "Architecture": "arm64", "Filename": f"{name}.deb", "SHA256": "00"}
    return "\n".join(f"{key}: {value}" for key, value in {**lines, "Size": "5", **fields}.items())


def index_of(mirror: Mirror, *stanzas: str) -> dict[str, Package]:
    path = mirror.folder / "dists/trixie/main/binary-arm64/Packages.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(("\n\n".join(stanzas) + "\n").encode()))
    return read_index(mirror.url, "trixie", "arm64")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", f"# deb {ADDRESS}-old a\ndeb-src {ADDRESS}-src a\ndeb [arch=amd64] {ADDRESS} trixie main\n"),
        ("sources.list.d/debian.sources", f"Types: deb\nURIs: {ADDRESS}-security {ADDRESS}/\nSuites: trixie\n"),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(debian.MIRROR_VARIABLE, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert mirror_url(apt=tmp_path) == ADDRESS


def test_a_mirror_that_is_asked_for_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.MIRROR_VARIABLE, ADDRESS)
    assert (mirror_url(f"{ADDRESS}/2/"), mirror_url()) == (f"{ADDRESS}/2", ADDRESS)


def test_without_any_mirror_the_error_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(debian.MIRROR_VARIABLE, raising=False)
    with pytest.raises(HostError, match=r"name one with --mirror .* or in the variable CHAMNET_DEBIAN_MIRROR"):
        mirror_url(apt=tmp_path)


def test_an_index_lists_packages_by_name(mirror: Mirror) -> None:
    index = index_of(mirror, stanza("a", Description="long\n and longer", Depends="b (>= 2) | c, d:any"), stanza("b"))
    assert list(index) == ["a", "b"]
    assert index["a"] == Package("a", "1", "arm64", "a.deb", "00", 5, ("b", "d"))


def test_a_closure_follows_first_alternatives_and_providers_once(mirror: Mirror) -> None:
    index = index_of(
        mirror, stanza("a", Depends="b | z, virtual", **{"Pre-Depends": "left"}), stanza("b", Depends="a"),
        stanza("c", Provides="virtual (= 1)"), stanza("d"), stanza("left"),
    )  # fmt: skip
    assert [package.name for package in closure(index, ["a"], leave_out=["left"])] == ["a", "b", "c"]


def test_a_closure_names_the_package_that_is_nowhere(mirror: Mirror) -> None:
    with pytest.raises(HostError, match="got 'z', which none of 1 packages provides"):
        closure(index_of(mirror, stanza("a", Depends="z")), ["a"])


def test_a_package_is_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    package = publish(mirror)
    paths = [fetch(mirror.url, package, tmp_path / "cache") for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == b"a package"
    assert len(mirror.asked) == 1


def test_a_damaged_file_in_the_cache_is_downloaded_again(mirror: Mirror, tmp_path: Path) -> None:
    package = publish(mirror)
    fetch(mirror.url, package, tmp_path / "cache").write_bytes(b"half a pack")
    assert fetch(mirror.url, package, tmp_path / "cache").read_bytes() == b"a package"


@pytest.mark.parametrize("change", [{"sha256": "00"}, {"size_bytes": 1}])
def test_another_file_than_the_locked_one_is_refused(mirror: Mirror, tmp_path: Path, change: dict[str, str]) -> None:
    package = replace(publish(mirror), **change)  # type: ignore[arg-type]
    with pytest.raises(HostError, match=r"hello 1:1\.0 must have .* bytes and SHA-256"):
        fetch(mirror.url, package, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_vanished_version_names_itself_and_the_command_that_mends(mirror: Mirror, tmp_path: Path) -> None:
    package = publish(mirror)
    (mirror.folder / package.filename).unlink()
    with pytest.raises(VanishedPackage, match=r"hello 1:1\.0, but got 404 .* 'chamnet bundle lock'"):
        fetch(mirror.url, package, tmp_path / "cache")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "no address"])
def test_a_mirror_that_does_not_answer_is_an_error_of_one_line(address: str) -> None:
    with pytest.raises(HostError, match=r"the mirror must send .*name another with --mirror URL"):
        read_index(address, "trixie", "arm64")


def test_an_index_that_is_none_is_an_error_of_one_line(mirror: Mirror) -> None:
    path = mirror.folder / "dists/trixie/main/binary-arm64/Packages.xz"
    path.parent.mkdir(parents=True)
    path.write_text("<html>")
    with pytest.raises(HostError, match=r"the mirror must send .*Packages\.xz, but got: Input format not supported"):
        read_index(mirror.url, "trixie", "arm64")


@pytest.mark.parametrize(("name", "mode"), [("data.tar", "w"), ("data.tar.gz", "w:gz"), ("data.tar.xz", "w:xz")])
def test_a_package_unpacks_with_its_modes_and_links(name: str, mode: str, tmp_path: Path) -> None:
    members = (
        member("./usr/bin/tool", mode=0o755),
        member("./usr/bin/link", "tool"),
        member("./usr/top", "/usr/bin/tool"),
    )
    unpack(write_deb(tmp_path / "a.deb", name, data_tar(mode, *members)), tmp_path / "root")
    tool = tmp_path / "root/usr/bin/tool"
    assert (tool.read_bytes(), tool.stat().st_mode & 0o777) == (b"content", 0o755)
    assert (tmp_path / "root/usr/bin/link").readlink() == Path("tool")
    assert (tmp_path / "root/usr/top").resolve() == tool.resolve()


@pytest.mark.parametrize("bad", [member("../escaped"), member("./link", "../../escaped")])
def test_a_package_cannot_write_outside_its_folder(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "a.deb", "data.tar", data_tar("w", bad))
    with pytest.raises(HostError, match="must unpack within"):
        unpack(deb, tmp_path / "root")
    assert not (tmp_path / "escaped").exists()


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.deb").write_text("<html>")
    with pytest.raises(HostError, match="must be an ar archive, but got b'<html>'"):
        unpack(tmp_path / "page.deb", tmp_path / "root")
    with pytest.raises(HostError, match=r"must hold data\.tar"):
        unpack(write_deb(tmp_path / "a.deb", "other", b""), tmp_path / "root")


def test_without_a_module_for_zstandard_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "ZSTD_MODULES", ("no_such_module",))
    with pytest.raises(HostError, match="install zstandard"):
        unpack(write_deb(tmp_path / "a.deb", "data.tar.zst", b""), tmp_path / "root")
