"""DSP and NPU end to end: a virtual Snapdragon 835, a stand-in for benchmark_model, and the command as it is typed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from host import cli
from host.delegates import check_delegate
from host.errors import UsageError
from lut_db.records import Target
from lut_db.store import open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from tests.virtual_phone import state
from tests.virtual_phone.adb_server import AdbServer
from tests.virtual_phone.adbd import Options, open_adbd
from tests.virtual_phone.phone import VirtualPhone
from tests.virtual_phone.profiles import PROFILES

STAND_IN = Path(__file__).parent / "stand_in" / "benchmark_model"
HEXAGON_FILES = ("libhexagon_interface.so", "libhexagon_nn_skel.so")
SMALL = make_op("conv2d", TensorSpec((1, 8, 8, 8)), out_channels=8, kernel=(3, 3))
LARGE = make_op("conv2d", TensorSpec((1, 64, 28, 28)), out_channels=64, kernel=(3, 3))
IMPOSSIBLE = make_op("layer_norm", TensorSpec((1, 4, 8)))
REASON = "the Hexagon delegate does not take layer_norm"
SIZE = "size=${#content}\n"
ONLY_LARGE = '[ "$size" -gt 20000 ]'
"""More than the null and the sentinel have: a convolution of 32 channels."""


def int8(key: str) -> str:
    return key.replace("float32", "int8")


def stand_in(folder: Path, behaviour: str, only_if: str = "true") -> Path:
    """A copy of the stand-in that behaves so of itself, where a test of the model's ``$size`` holds."""
    path, text = folder / "benchmark_model", STAND_IN.read_text()
    assert text.count(SIZE) == 1
    path.write_text(text.replace(SIZE, f"{SIZE}{only_if} && behaviour={behaviour}\n"))
    return path


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    status: int
    out: str
    err: str


def chamnet(*arguments: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.run(arguments)
    return Ran(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Bench:
    """A phone, and a folder with operators, libraries and databases."""

    phone: VirtualPhone
    folder: Path

    def db(self, name: str = "measured") -> str:
        return str(self.folder / f"{name}.db")

    def profile(self, *arguments: str, binary: Path = STAND_IN, db: str = "measured") -> Ran:
        given = ("--ops", str(self.folder / "ops.txt"), "--benchmark-binary", str(binary), "--db", self.db(db))
        return chamnet("profile", "--device", self.phone.serial, *given, *arguments)

    def hexagon(self, *arguments: str, dtype: str = "int8", binary: Path = STAND_IN, db: str = "measured") -> Ran:
        wanted = ("--accelerator", "hexagon", "--dtype", dtype, "--delegate-libraries", str(self.folder / "hexagon"))
        return self.profile(*wanted, *arguments, binary=binary, db=db)

    def target(self, db: str = "measured") -> Target:
        with open_store(self.db(db)) as store:
            (target,) = store.targets()
        return target


@pytest.fixture(scope="module")
def on_835(phone_835: VirtualPhone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Digests of binaries are recorded in the folder, too; the bundle is this computer's as ever."""
    folder = tmp_path_factory.mktemp("delegates")
    (folder / "hexagon").mkdir()
    for name in HEXAGON_FILES:
        (folder / "hexagon" / name).write_text(f"stand-in for {name}")
    (folder / "ops.txt").write_text("".join(f"{op.key}\n" for op in (SMALL, LARGE, IMPOSSIBLE)))
    phone_835.reset("snapdragon835")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("host.cli_options.cache_folder", lambda: folder)
        yield Bench(phone_835, folder)
    phone_835.reset("snapdragon835")


@pytest.fixture(scope="module")
def measured(on_835: Bench) -> Ran:
    """The first run on the DSP."""
    return on_835.hexagon()


def test_what_the_delegate_can_run_is_measured_on_the_dsp(on_835: Bench, measured: Ran) -> None:
    assert (measured.status, on_835.target().accelerator, on_835.target().dtype) == (3, "hexagon", "int8")
    with open_store(on_835.db()) as store:
        rows = list(store.measurements(on_835.target()))
    assert sorted(row.op_key for row in rows) == sorted([int8(SMALL.key), int8(LARGE.key)] * 2)


def test_times_are_those_that_the_binary_told(on_835: Bench, measured: Ran) -> None:
    with open_store(on_835.db()) as store:
        rows = list(store.measurements(on_835.target()))
    assert {row.bursts_ns for row in rows} == {((),)}
    assert all(row.summary and row.summary["median_ns"] >= 100_000 for row in rows)


def test_the_target_names_the_binary_and_the_libraries_by_their_digests(on_835: Bench, measured: Ran) -> None:
    target, home = on_835.target(), on_835.phone.root / "data/local/tmp/chamnet"
    assert target.engine_version == f"sha256-{hashlib.sha256(STAND_IN.read_bytes()).hexdigest()[:12]}"
    ((name, digest),) = target.options
    assert name == "libraries"
    brought = {path.name: path.read_text() for path in (home / f"libraries-{digest}").glob("lib*")}
    assert brought == {name: f"stand-in for {name}" for name in HEXAGON_FILES}


def test_rows_of_a_binary_can_be_checked_and_moved(on_835: Bench, measured: Ran) -> None:
    assert "4 measurements readable" in chamnet("lut", "check", "--db", on_835.db()).out
    for kind in ("jsonl", "parquet"):
        table = str(on_835.folder / f"table.{kind}")
        assert chamnet("lut", "export", table, "--db", on_835.db()).status == 0
        assert chamnet("lut", "import", table, "--db", on_835.db(kind)).status == 0
        with open_store(on_835.db()) as store, open_store(on_835.db(kind)) as copy:
            target = on_835.target()
            assert list(copy.measurements(target)) == list(store.measurements(target))


def test_a_second_run_measures_nothing(on_835: Bench, measured: Ran) -> None:
    (summary,) = json.loads(on_835.hexagon("--json").out)
    assert (summary["already"], summary["measured"]) == (2, 0)


def test_what_the_delegate_cannot_run_is_told_once_and_before_the_run(measured: Ran) -> None:
    assert measured.err.strip() == f"cannot run on hexagon {int8(IMPOSSIBLE.key)}: {REASON}"
    assert "layer_norm" not in measured.out


def test_a_plan_tells_what_the_delegate_cannot_run_and_makes_no_database(on_835: Bench) -> None:
    ran = on_835.hexagon("--dry-run", db="none")
    assert ran.status == 0
    assert "2 operators, 4 measurements" in ran.out
    assert f"cannot run on hexagon {int8(IMPOSSIBLE.key)}: {REASON}" in ran.out
    (plan,) = json.loads(on_835.hexagon("--dry-run", "--json", db="none").out)
    assert plan["cannot"] == {int8(IMPOSSIBLE.key): REASON}
    assert not Path(on_835.db("none")).exists()


def test_rows_of_an_emulated_phone_are_shown_as_such(on_835: Bench, measured: Ran) -> None:
    assert on_835.target().source == "emulated"
    assert "(emulated)" in chamnet("lut", "show", "--db", on_835.db()).out
    shown = json.loads(chamnet("lut", "show", "--db", on_835.db(), "--json").out)
    assert {entry["label"] for entry in shown["entries"]} == {"emulated"}


def test_a_search_refuses_the_table_of_an_emulated_phone_unless_asked_for(
    on_835: Bench, measured: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("--population", "20", "--generations", "1")
    table = ("--device", on_835.target().device, "--latency-ms", "10", "--db", on_835.db())
    asked = ("search", "--space", "chamnet-mobile", *few, *table)
    refused = chamnet(*asked)
    assert (refused.status, "emulated" in refused.err) == (2, True)
    assert "--emulated searches with it all the same" in refused.err
    assert "emulated" not in chamnet(*asked, "--emulated").err


def test_an_operator_that_falls_back_is_quarantined_and_the_others_are_measured(on_835: Bench, tmp_path: Path) -> None:
    binary = stand_in(tmp_path, "fallback", ONLY_LARGE)
    ran = on_835.hexagon("--json", binary=binary, db="fallback")
    (summary,) = json.loads(ran.out)
    assert (ran.status, summary["measured"]) == (3, 2)
    ((key, reason),) = summary["quarantined"].items()
    assert key == int8(LARGE.key)
    assert reason.startswith("fallback: fell back to the CPU")
    with open_store(on_835.db("fallback")) as store:
        assert list(store.quarantined(on_835.target("fallback"))) == [key]
        assert {row.op_key for row in store.measurements(on_835.target("fallback"))} == {int8(SMALL.key)}


def test_where_everything_falls_back_no_row_is_stored_and_the_reason_told(on_835: Bench, tmp_path: Path) -> None:
    ran = on_835.hexagon(binary=stand_in(tmp_path, "fallback"), db="nothing")
    assert ran.status == 4
    assert "fell back to the CPU" in ran.err
    assert "docs/dsp.md" in ran.err
    with open_store(on_835.db("nothing")) as store:
        assert list(store.measurements(on_835.target("nothing"))) == []


def test_another_element_type_is_refused(on_835: Bench) -> None:
    ran = on_835.hexagon(dtype="int8,float32")
    assert (ran.status, ran.out) == (2, "")
    assert "hexagon must be given int8 models, but got float32; ask for --dtype int8" in ran.err


def test_missing_libraries_are_named_with_where_to_read_about_them(on_835: Bench, tmp_path: Path) -> None:
    wanted = ("--accelerator", "hexagon", "--dtype", "int8")
    ran = on_835.profile(*wanted)
    assert (ran.status, "but got nothing; docs/dsp.md" in ran.err) == (2, True)
    (tmp_path / HEXAGON_FILES[0]).touch()
    ran = on_835.profile(*wanted, "--delegate-libraries", str(tmp_path))
    assert f"must have {HEXAGON_FILES[1]} in the folder of --delegate-libraries, but got {HEXAGON_FILES[0]}" in ran.err
    ran = on_835.profile(*wanted, "--delegate-libraries", str(tmp_path / "nowhere"))
    assert "must be a folder, but got" in ran.err


@pytest.mark.parametrize(
    ("name", "hexagon", "instead"),
    [("hexagon", None, "use nnapi, gpu or cpu"), ("hexagon", "v73", "use qnn-htp"), ("qnn-htp", "v62", "use hexagon")],
)
def test_a_chip_without_the_accelerator_is_refused_with_what_to_use(
    name: str, hexagon: str | None, instead: str
) -> None:
    with pytest.raises(UsageError, match=instead):
        check_delegate(name, "int8", None, hexagon)


def test_libraries_for_what_needs_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave them out"):
        check_delegate("gpu", "int8", tmp_path, "v62")


def test_a_phone_of_another_maker_has_no_hexagon(on_835: Bench) -> None:
    on_835.phone.become("tensorg1")
    ran = on_835.hexagon("--dry-run")
    on_835.phone.reset("snapdragon835")
    assert ran.status == 2
    assert "but the chip has none that is known; use nnapi, gpu or cpu" in ran.err


def test_another_binary_is_refused_until_it_is_accepted(on_835: Bench, tmp_path: Path) -> None:
    binary = stand_in(tmp_path, "none")
    assert on_835.hexagon("--dry-run", binary=binary).status == 0
    stand_in(tmp_path, "partial")
    refused = on_835.hexagon("--dry-run", binary=binary)
    assert (refused.status, "--accept-binary" in refused.err) == (1, True)
    assert on_835.hexagon("--dry-run", "--accept-binary", binary=binary).status == 0
    assert on_835.hexagon("--dry-run", binary=binary).status == 0


def test_driven_from_here_it_is_a_target_of_its_own(on_835: Bench) -> None:
    ran = on_835.hexagon("--agent", "host", "--json", db="driven")
    (summary,) = json.loads(ran.out)
    assert (ran.status, summary["measured"]) == (3, 4)
    target = on_835.target("driven")
    assert dict(target.options)["agent"] == "host"
    assert (target.isa, target.source) == ("x86_64", "emulated")
    with open_store(on_835.db("driven")) as store:
        (device,) = store.devices()
        assert "memory_kib" not in device.facts
        assert device.facts["soc"] == "snapdragon835"
    assert on_835.phone.setting("screen_brightness", "system") == "102"


def test_where_the_bundle_does_not_run_it_is_driven_from_here_by_itself(on_835: Bench) -> None:
    on_835.phone.set_property("ro.product.cpu.abi", "armeabi-v7a")
    ran = on_835.hexagon("--json", db="old-abi")
    refused = on_835.profile("--engine", "litert", db="litert")
    on_835.phone.reset("snapdragon835")
    assert (ran.status, dict(on_835.target("old-abi").options)["agent"]) == (3, "host")
    assert refused.status == 4
    assert "since there must be a bundle for the phone's ABI (arm64-v8a, x86_64), but got 'armeabi-v7a'" in refused.err
    assert refused.err.count("'--engine benchmark_model'") == 1


def test_an_engine_of_the_bundle_cannot_be_driven_from_here(on_835: Bench) -> None:
    refused = on_835.profile("--engine", "litert", "--agent", "host", db="litert")
    assert (refused.status, "'--engine benchmark_model'" in refused.err) == (4, True)


@pytest.fixture
def three_phones(on_835: Bench, adb_server: AdbServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serials by state: one that is ready, one that takes no key, one that stopped answering."""
    state.build_folder(tmp_path, PROFILES["snapdragon835"])
    with open_adbd(Options(authorisation="never")) as locked, open_adbd(Options(root=tmp_path)) as gone:
        for serial in (locked.serial, gone.serial):
            adb_server.connect(serial)
        gone.faults.refusing = True
        gone.drop()
        adb_server.adb("-s", gone.serial, "shell", "-T", "true")
        yield {"device": on_835.phone.serial, "unauthorized": locked.serial, "offline": gone.serial}
        for serial in (locked.serial, gone.serial):
            adb_server.disconnect(serial)


def test_devices_tells_of_each_phone_what_it_is_or_what_to_do(three_phones: dict[str, str]) -> None:
    ran = chamnet("devices", "--json")
    shown = {phone["serial"]: phone for phone in json.loads(ran.out)["phones"]}
    ready, locked, gone = (shown[three_phones[name]] for name in ("device", "unauthorized", "offline"))
    assert (ready["state"], ready["soc"]) == ("ready", "snapdragon835 (soc_id 292)")
    assert "to do" not in ready
    assert (locked["state"], locked["to do"]) == ("unauthorized", "allow USB debugging on its screen")
    assert (gone["state"], gone["to do"]) == ("offline", "plug it in again, or 'adb reconnect offline'")


def test_devices_shows_a_person_the_same(three_phones: dict[str, str]) -> None:
    ran = chamnet("devices")
    assert ran.status == 0
    for expected in (
        "local-cpu",
        "snapdragon835 (soc_id 292)",
        "allow USB debugging",
        "emulated",
        *three_phones.values(),
    ):
        assert expected in ran.out
