"""The store: one conversion, mapped by all, right again after any damage."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from tiny_package import TINY, tiny_variables, write_package

from mianet.data import datasets, store
from mianet.data.search_data import load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts
from mianet.errors import InputError

pytestmark = pytest.mark.usefixtures("forked_readers")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "store"


@pytest.fixture
def tiny(tmp_path, cache, monkeypatch):
    """The data folder of a tiny data set."""
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, "tiny": TINY})
    write_package(tmp_path / "data" / "TINY", *tiny_variables())
    return tmp_path / "data"


@pytest.fixture
def conversions(monkeypatch):
    """The sources that were converted."""
    names = []
    convert = store._convert

    def counted(source, folder):
        names.append(source.name)
        return convert(source, folder)

    monkeypatch.setattr(store, "_convert", counted)
    return names


def start(code, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def generations(home):
    return [child for child in home.iterdir() if child.is_dir()]


def home_of(cache, name="tiny"):
    (home,) = cache.glob(f"{name}*")
    return home


def test_a_source_is_converted_once_and_says_so(tiny, conversions, capsys):
    first = load_search_data("tiny", tiny)
    again = load_search_data("tiny", tiny)
    load_test_parts("tiny", tiny)
    assert conversions == ["tiny"]
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"converting tiny ({tiny / 'TINY'})" in err
    np.testing.assert_array_equal(first.features, again.features)
    assert first.digest == again.digest


@pytest.mark.parametrize("name", ["tiny", "synthetic:tiny", "synthetic:numbers"])
def test_arrays_lie_on_the_mapped_file(tiny, cache, name):
    data = load_search_data(name, tiny)
    file = next(cache.glob(f"{name.replace(':', '-')}*/*/search/features.npy"))
    address = data.features.ctypes.data
    mapped = [
        line for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line
    ]
    bounds = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    assert any(low <= address < high for low, high in bounds)
    assert address % 64 == 0
    for array in (data.features, data.labels, data.class_attributes, data.class_ids):
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_touched_source_is_not_converted_again_and_a_changed_one_is(tiny, conversions):
    before = load_search_data("tiny", tiny)
    os.utime(tiny / "TINY" / "res101.mat", ns=(1, 1))
    assert load_search_data("tiny", tiny).digest == before.digest
    assert conversions == ["tiny"]

    images, splits = tiny_variables()
    write_package(tiny / "TINY", {**images, "features": images["features"] + 1}, splits)
    after = load_search_data("tiny", tiny)
    assert conversions == ["tiny", "tiny"]
    assert after.digest != before.digest
    np.testing.assert_allclose(after.features, before.features + 1, rtol=1e-6)


def test_a_source_left_alone_is_not_hashed_again(tiny, monkeypatch):
    load_search_data("tiny", tiny)

    def fail(folder):
        raise AssertionError(folder)

    monkeypatch.setattr("mianet.data.sources._files_digest", fail)
    load_search_data("tiny", tiny)


def test_copies_of_a_data_set_have_stores_of_their_own(tiny, tmp_path, conversions):
    images, splits = tiny_variables()
    other = tmp_path / "other"
    write_package(other / "TINY", {**images, "features": images["features"][:3]}, splits)
    widths = [load_search_data("tiny", d).features.shape[1] for d in (tiny, other, tiny, other)]
    assert widths == [7, 3, 7, 3]
    assert conversions == ["tiny", "tiny"]


def cut(home):
    file = next(home.glob("*/search/features.npy"))
    os.truncate(file, file.stat().st_size // 2)


def flip(home):
    """Change one bit in the middle of the features, with the times of the file kept."""
    file = next(home.glob("*/search/features.npy"))
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def record(change):
    def damage(home):
        values = json.loads((home / "current.json").read_text())
        change(values)
        (home / "current.json").write_text(json.dumps(values))

    return damage


def forged(make, file="search/features.npy"):
    """Put other content in the place of a file, with a record that has its checksum."""

    def damage(home):
        (generation,) = generations(home)
        path = generation / file
        path.write_bytes(make(path.read_bytes()))
        content = path.read_bytes()
        record(lambda v: v["files"].update({file: [len(content), zlib.crc32(content)]}))(home)

    return damage


def array(change, **options):
    """Return a maker of a file that holds what a change makes of its array."""

    def make(content):
        stream = io.BytesIO()
        np.save(stream, change(np.load(io.BytesIO(content))), **options)
        return stream.getvalue()

    return make


def header(old, new):
    """Return a maker of a file whose header says something else."""
    return lambda content: content[:128].replace(old, new) + content[128:]


def moved_generation(home):
    """The record points out of its folder, to a generation that is whole."""
    (generation,) = generations(home)
    shutil.copytree(generation, home.parent / generation.name)
    record(lambda values: values.update(generation=f"../{generation.name}"))(home)


def leftovers(home):
    (home / "current.json.tmp").write_text("{")
    cut(home)


NAMES = "search/class_names.npy"
DAMAGES = {
    "noise with its checksum": forged(lambda content: b"noise" * 100),
    "cut short with its checksum": forged(lambda content: content[: len(content) // 2]),
    "another type": forged(array(lambda features: features.astype(int))),
    "another shape": forged(array(lambda features: features.ravel())),
    "no rows": forged(array(lambda features: features[:0])),
    "a pickle": forged(array(lambda features: features.astype(object), allow_pickle=True)),
    "names that are numbers": forged(array(lambda names: np.arange(len(names))), NAMES),
    "a header without type": forged(header(b"'descr'", b"'descx'")),
    "a header that is no text": forged(header(b"{'descr'", b"{\xff\xfe\x00\n(['")),
    "a header of more rows": forged(header(b"(24, 7)", b"(9999999999999999999, 7)")),
    "an unknown version of the format": forged(lambda content: b"\x93NUMPY\x09" + content[7:]),
    "generation elsewhere": moved_generation,
    "generation a number": record(lambda values: values.update(generation=5)),
    "digest a list": record(lambda values: values.update(digest=[1])),
    "checksum a text": record(lambda v: v["files"].update({"search/features.npy": [1, "2"]})),
    "a path out": record(lambda v: v["files"].update({"search/../../../x": [1, 2]})),
    "a path with NUL": record(lambda v: v["files"].update({"search/a\0b": [1, 2]})),
    "an endless number": record(lambda v: v["files"].update({"search/features.npy": [10**400, 1]})),
    "record nested deep": lambda home: (home / "current.json").write_text("[" * 60_000),
    "record of gigabytes": lambda home: os.truncate(home / "current.json", 2**33),
    "record of a later version": record(lambda values: values.update(format=99, more=1)),
    "leftovers": leftovers,
    "cut short": cut,
    "one bit": flip,
    "empty": lambda home: os.truncate(next(home.glob("*/search/class_names.npy")), 0),
    "file gone": lambda home: next(home.glob("*/search/class_names.npy")).unlink(),
    "folder gone": lambda home: shutil.rmtree(generations(home)[0]),
    "record gone": lambda home: (home / "current.json").unlink(),
    "record empty": lambda home: os.truncate(home / "current.json", 0),
    "record cut": lambda home: os.truncate(home / "current.json", 80),
    "record of noise": lambda home: (home / "current.json").write_bytes(b"\xff\x00[1, 2"),
    "record of a list": lambda home: (home / "current.json").write_text("[1, 2]"),
    "older format": record(lambda values: values.update(format=0)),
    "lacks a key": record(lambda values: values.pop("digest")),
    "no files": record(lambda values: values.update(files={})),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_converted_again(tiny, cache, conversions, damage):
    before = load_search_data("tiny", tiny)
    expected = np.array(before.features)
    home = home_of(cache)
    shutil.copytree(home, home.with_name("copy"))  # the damage is done to files that none maps
    shutil.rmtree(home)
    home.with_name("copy").rename(home)
    damage(home)
    after = load_search_data("tiny", tiny)
    np.testing.assert_array_equal(after.features, expected)
    assert conversions == ["tiny", "tiny"]
    assert len(generations(home)) == 1
    assert {child.name for child in home.iterdir() if child.is_file()} == {"current.json", "lock"}


BLOCKED = {
    "a folder as record": lambda home: (home / "current.json").mkdir(parents=True),
    "a folder as lock": lambda home: (home / "lock").mkdir(parents=True),
    "a file as home": lambda home: (home.parent.mkdir(parents=True), home.touch()),
    "a link to itself as home": lambda home: (
        home.parent.mkdir(parents=True),
        home.symlink_to(home),
    ),
}


@pytest.mark.parametrize("block", BLOCKED.values(), ids=BLOCKED)
def test_a_store_that_something_is_in_the_way_of_is_named(tiny, cache, block):
    block(cache / open_source("tiny", tiny).key)
    with pytest.raises(
        InputError, match=r"store of tiny must be writable, but .* set MIANET_CACHE"
    ):
        load_search_data("tiny", tiny)
    assert not list(cache.rglob("*.npy"))


def test_a_source_that_goes_while_the_store_is_asked_is_named(tiny):
    source = open_source("tiny", tiny)
    shutil.rmtree(tiny)
    with pytest.raises(InputError, match=r"att_splits.mat, but one cannot be read"):
        store.open_part(source, "search")


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("lacking", [4096, 8192, 60_000, 200_000, 2**20])
def test_a_disk_that_is_full_while_converting(small_disk, monkeypatch, lacking):
    """Wherever it ends, in the record itself too, nothing is left; room is all it needs."""
    monkeypatch.setenv("MIANET_CACHE_DIR", str(small_disk))
    before = shutil.disk_usage(small_disk).used
    load_search_data("synthetic:numbers")
    needed = shutil.disk_usage(small_disk).used - before
    shutil.rmtree(small_disk / "store")
    fill(small_disk / "ballast", needed - lacking)
    with pytest.raises(InputError, match=r"must be writable.*No space left.*enough space"):
        load_search_data("synthetic:numbers")
    assert {path.name for path in small_disk.rglob("*") if path.is_file()} <= {"ballast", "lock"}
    (small_disk / "ballast").unlink()
    assert load_search_data("synthetic:numbers").features.shape == (480, 128)


def fill(path, free):
    with path.open("wb", buffering=0) as ballast:
        with contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        ballast.truncate(max(0, ballast.tell() - free))


def test_a_disk_full_at_a_new_conversion_keeps_the_old_one(small_disk, tiny, monkeypatch):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(small_disk))
    before = load_search_data("tiny", tiny)
    (home,) = (small_disk / "store").iterdir()
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    images, splits = tiny_variables()
    source = tiny / "TINY"
    kept = {path: (path.read_bytes(), path.stat()) for path in source.iterdir()}
    write_package(source, {**images, "features": images["features"] + 1}, splits)
    fill(small_disk / "ballast", 4096)
    with pytest.raises(InputError, match=r"No space left"):
        load_search_data("tiny", tiny)
    (small_disk / "ballast").unlink()
    assert files == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for path, (content, state) in kept.items():
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    monkeypatch.setattr(store, "_convert", None)
    assert load_search_data("tiny", tiny).digest == before.digest


def test_a_limit_of_file_size_while_converting(cache):
    """For those who are not root: the kernel refuses to let a file grow."""
    code = (
        "import resource, sys; from mianet.data.search_data import load_search_data\n"
        "from mianet.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 10**9))\n"
        "try: load_search_data('synthetic:numbers')\n"
        "except InputError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))\n"
        f"import pathlib; print(len(list(pathlib.Path({str(cache)!r}).rglob('*.npy'))))\n"
        "print(load_search_data('synthetic:numbers').features.shape)"
    )
    out, err = start(code).communicate(timeout=120)
    line, left, shape = out.splitlines()
    assert "must be writable" in line, err
    assert "File too large" in line
    assert left == "0"
    assert shape == "(480, 128)"


def test_processes_that_meet_one_data_file_for_the_first_time_convert_it_once(tiny, cache):
    code = (
        "import sys, time, zlib, pathlib; from mianet.data import datasets, store\n"
        "from mianet.data.search_data import load_search_data; from tiny_package import TINY\n"
        "datasets.DATASETS = {**datasets.DATASETS, 'tiny': TINY}\n"
        "convert = store._convert\n"
        "store._convert = lambda *args: (time.sleep(0.5), convert(*args))[1]\n"
        f"print('ready', flush=True); go = pathlib.Path({str(cache.parent / 'go')!r})\n"
        "while not go.exists(): time.sleep(0.001)\n"
        f"data = load_search_data('tiny', pathlib.Path({str(tiny)!r}))\n"
        "print(zlib.crc32(data.features), data.digest)"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    processes = [start(code, PYTHONPATH=paths) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    (cache.parent).mkdir(exist_ok=True)
    (cache.parent / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum(err.count("converting tiny") for _, err in outputs) == 1
    assert sum(err.count("waiting for another process") for _, err in outputs) == 1
    (home,) = cache.iterdir()
    assert len(generations(home)) == 1


def test_what_a_killed_conversion_leaves_is_harmless_and_swept(cache, tmp_path):
    code = (
        "import time; from mianet.data import store\n"
        "from mianet.data.search_data import load_search_data\n"
        "def stall(*_): print('written', flush=True); time.sleep(100)\n"
        "store._write_record = stall; load_search_data('synthetic:numbers')"
    )
    with start(code) as killed:
        assert killed.stdout.readline() == "written\n"
        killed.send_signal(signal.SIGKILL)
    home = home_of(cache, "synthetic-numbers")
    assert not (home / "current.json").exists()
    (leftover,) = generations(home)
    data = load_search_data("synthetic:numbers")
    assert data.features.shape == (480, 128)
    assert leftover not in generations(home)
    assert len(generations(home)) == 1


def test_processes_that_start_at_once_convert_once(cache, tmp_path):
    code = (
        "import pathlib, sys, time, zlib; from mianet.data.search_data import load_search_data\n"
        "print('ready', flush=True)\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.001)\n"
        "data = load_search_data('synthetic:cub'); print(zlib.crc32(data.features))"
    )
    processes = [start(code) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert sum(err.count("converting synthetic:cub") for _, err in outputs) == 1
    assert sum("waiting for another process" in err for _, err in outputs) >= 1
    assert {int(out) for out, _ in outputs} == {
        zlib.crc32(load_search_data("synthetic:cub").features)
    }


def test_waiting_for_a_converter_that_does_not_end_has_an_end(tiny, cache, monkeypatch):
    load_search_data("tiny", tiny)
    home = home_of(cache)
    (home / "current.json").unlink()
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.2)
    with FileLock(home / "lock"), pytest.raises(InputError, match=f"still holds {home / 'lock'}"):
        load_search_data("tiny", tiny)


def test_a_bad_source_leaves_no_store_and_a_mended_one_loads(tiny, cache):
    images, splits = tiny_variables()
    good = images["features"].copy()
    images["features"][1, 1] = np.nan
    write_package(tiny / "TINY", images, splits)
    with pytest.raises(InputError, match=r"features of .* must be finite"):
        load_search_data("tiny", tiny)
    assert not list(cache.glob("*/current.json"))
    write_package(tiny / "TINY", {**images, "features": good}, splits)
    assert np.isfinite(load_search_data("tiny", tiny).features).all()


def test_a_bad_change_of_the_source_is_not_hidden_by_the_store(tiny):
    load_search_data("tiny", tiny)
    os.truncate(tiny / "TINY" / "res101.mat", 500)
    with pytest.raises(InputError, match="must be an intact Matlab file"):
        load_search_data("tiny", tiny)
    (tiny / "TINY" / "res101.mat").unlink()
    with pytest.raises(InputError, match=r"has no res101\.mat"):
        load_search_data("tiny", tiny)


def test_a_source_that_changes_while_it_is_read_is_refused(tiny, cache, monkeypatch):
    convert = store._convert

    def disturbed(source, folder):
        files = convert(source, folder)
        time.sleep(0.01)
        (tiny / "TINY" / "res101.mat").touch()
        return files

    monkeypatch.setattr(store, "_convert", disturbed)
    with pytest.raises(InputError, match=f"{tiny / 'TINY'} or .* did; try again"):
        load_search_data("tiny", tiny)
    assert not list(cache.glob("*/current.json"))


def test_a_store_that_cannot_be_written_names_the_remedy(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"must be writable, .* set MIANET_CACHE_DIR to a folder"):
        load_search_data("tiny", tiny)


def test_a_full_disk_names_the_remedy_and_leaves_no_store(tiny, cache, monkeypatch):
    def full(path, array):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_array", full)
        with pytest.raises(InputError, match=r"No space left on device.* MIANET_CACHE_DIR"):
            load_search_data("tiny", tiny)
    assert load_search_data("tiny", tiny).features.shape == (24, 7)


def test_the_cache_folder_is_the_variable_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "own"))
    assert store.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MIANET_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg" / "mianet"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert store.cache_folder() == tmp_path / ".cache" / "mianet"
