"""The loader under changed bytes and arbitrary variables; fuzz_loader.py itself runs longer."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io
from commands import ROOT, environment
from fuzz_loader import WRITERS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data.folders import read_folder
from mianet.data.images import Checks
from mianet.data.matfiles import read_mat
from mianet.errors import InputError

pytestmark = pytest.mark.usefixtures("forked_readers")

MODERATE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("seed", [1, 2])
def test_changed_bytes_end_in_a_load_or_one_line(seed):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fuzz_loader.py", "--loads", "60", "--seed", str(seed)],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert {kind: sum(count.values()) for kind, count in counts.items()} == dict.fromkeys(
        WRITERS, 12
    )
    assert counts["v7"]["refused"] > 8  # most changes of a compressed file cannot go unseen
    assert counts["store"] == {"loaded": 12}  # a changed store is made again


def refusal(folder):
    """Return the message of the loader; empty where it loads."""
    try:
        Checks(TINY, str(folder)).images(read_folder(folder, TINY))
    except InputError as error:
        return str(error)
    return ""


def odd_arrays():
    """Small arrays of any type and shape that Matlab has, and text."""
    kinds = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
    return st.one_of(
        *(
            arrays.arrays(kind, arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=8))
            for kind in (*kinds, np.float32, np.float64, np.complex128)
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5).map(np.array),
    )


@pytest.mark.parametrize("file", [0, 1], ids=["res101", "att_splits"])
@MODERATE
@given(data=st.data())
def test_any_variable_ends_in_a_load_or_one_line(tmp_path, file, data):
    variables = tiny_variables()
    name = data.draw(st.sampled_from(sorted(variables[file])))
    variables[file][name] = data.draw(odd_arrays())
    assert refusal(write_package(tmp_path, *variables)).isprintable()


@pytest.mark.parametrize("file", [0, 1], ids=["res101", "att_splits"])
@MODERATE
@given(data=st.data())
def test_any_number_in_the_place_of_another_ends_in_a_load_or_one_line(tmp_path, file, data):
    variables = tiny_variables()
    name = data.draw(st.sampled_from(sorted(v for v in variables[file] if v != "allclasses_names")))
    array = variables[file][name] = variables[file][name].astype(float)
    place = data.draw(st.integers(0, array.size - 1))
    array.flat[place] = data.draw(st.floats(width=64) | st.integers(-3, 50).map(float))
    message = refusal(write_package(tmp_path, *variables))
    assert message.isprintable()
    if not message:
        images = read_folder(tmp_path, TINY)
        assert np.isfinite(images.features).all()
        assert set(images.labels) == set(range(6))


@pytest.mark.parametrize("compressed", [False, True])
@MODERATE
@given(
    value=arrays.arrays(
        st.sampled_from(["<i1", "<u1", "<i2", "<u2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8"]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    )
)
@example(np.zeros((1, 1)))
def test_numbers_are_read_as_scipy_reads_them(tmp_path, compressed, value):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"x": value, "other": [1, 2]}, do_compression=compressed)
    numbers, _ = read_mat(path, ["x"], max_bytes=10_000)
    np.testing.assert_array_equal(numbers["x"], scipy.io.loadmat(path)["x"])
    assert numbers["x"].dtype == value.dtype


NAMES = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]),
        min_size=1,
        max_size=9,
    ),
    min_size=2,
    max_size=5,
)


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
@MODERATE
@given(names=NAMES)
@example(["🐍", "a"])
def test_names_of_any_letters_are_read(tmp_path, writer, names):
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    path = tmp_path / "x.mat"
    writer(path, {"x": cells})
    _, texts = read_mat(path, [], ["x"], max_bytes=100_000)
    assert texts["x"] == tuple(name.strip() for name in names)


@MODERATE
@given(
    value=arrays.arrays(
        st.sampled_from(["<u1", "<i4", "<f4", "<f8"]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    ),
    compression=st.sampled_from([None, "gzip"]),
    shuffle=st.booleans(),
    fletcher32=st.booleans(),
)
def test_v73_numbers_are_read_through_all_of_matlabs_filters(
    tmp_path, value, compression, shuffle, fletcher32
):
    path = tmp_path / "x.mat"
    options = {"shuffle": shuffle, "fletcher32": fletcher32, "compression": compression}
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=value.T, chunks=(2, 3) if min(value.T.shape) > 2 else True, **options
        )
    numbers, _ = read_mat(path, ["x"], max_bytes=2**17)
    np.testing.assert_array_equal(numbers["x"], value)
