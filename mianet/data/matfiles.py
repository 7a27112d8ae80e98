"""Reads variables of Matlab files, both the older formats (v5 to v7) and v7.3, which is HDF5.

scipy and h5py read them in ``mianet.data.matlab_child``, a process with limits: a damaged file can
crash their C code, and a hostile one can keep them busy forever or take all memory.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np

from mianet.errors import InputError

MAX_BYTES = 4 * 2**30  # twice Matlab's limit for a variable in a v7 file
SECONDS = 60  # processor time allowed for reading any file
BYTES_PER_SECOND = 10 * 2**20
"""Each of so many bytes adds a second; a tenth of a slow machine's reading speed."""
PATIENCE = 10
"""How many times longer reading may take in wall time: the disk or machine may be slow."""

_PIPE_BYTES = 2**20
_CHILD = Path(__file__).with_name("matlab_child.py")


def read_mat(
    path: Path,
    numbers: Sequence[str] = (),
    texts: Sequence[str] = (),
    *,
    optional: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Read matrices and lists of text from a Matlab file, in Matlab's orientation.

    Args:
        path: The file.
        numbers: Names of variables that are real matrices of numbers.
        texts: Names of variables that are lists of text (cell arrays, maybe nested).
        optional: Which of the names the file may lack.
        max_bytes: Their largest total size in bytes, unpacked; more is not read.

    Returns:
        The matrices, each two-dimensional, and the lists of text, by name.

    Raises:
        InputError: The file is not a readable Matlab file, or a variable is missing, too large or
            of the wrong kind.
    """
    found = {item[0]["name"]: item for item in _items(path, [*numbers, *texts], max_bytes)}
    for name in (*numbers, *texts):
        if name not in found and name not in optional:
            raise _missing_variable(path, name)
    return (
        {name: _matrix(*found[name], path) for name in numbers if name in found},
        {name: _text_list(found[name][0], path) for name in texts if name in found},
    )


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return those of the named numeric arrays that a Matlab or HDF5 file has.

    Arrays of plain HDF5 files have the orientation they were saved in; Matlab's have Matlab's.
    """
    found = {}
    for head, array in _items(path, names, MAX_BYTES):
        if array is None:
            raise InputError(
                f"{head['name']} of {path} must be numbers, but is {head['kind']}; save it as such"
            )
        found[head["name"]] = array if path.suffix.lower() == ".mat" else array.T
    return found


def read_rows(
    path: Path, name: str, width: int, chunk: int, *, max_bytes: int = MAX_BYTES
) -> Iterator[np.ndarray]:
    """Yield the rows of a matrix in blocks; files of v7.3 are never read whole.

    Args:
        path: The file.
        name: The variable: a row of ``width`` entries for each image, or its transpose.
        width: Entries of a row; determines the matrix's orientation.
        chunk: Maximum rows per block.
        max_bytes: Maximum bytes of the variable in a file of v5 to v7.

    Raises:
        InputError: As ``read_mat``.
    """
    head = None
    with closing(_items(path, [name], max_bytes, {"width": width, "chunk": chunk})) as items:
        for head, array in items:
            yield _matrix(head, array, path)
    if head is None:
        raise _missing_variable(path, name)


def _items(
    path: Path, names: Sequence[str], max_bytes: int, rows: dict[str, int] | None = None
) -> Generator[tuple[dict[str, Any], np.ndarray | None], None, None]:
    """Yield the child's answer, item by item; refuse a file that it cannot read or survive."""
    size = path.stat().st_size if path.exists() else 0
    seconds = SECONDS + (max_bytes + size) // BYTES_PER_SECOND
    limits = {"max_bytes": max_bytes, "seconds": seconds}
    request = {"path": os.fspath(path), "names": list(names), "rows": rows, **limits}
    with tempfile.TemporaryFile() as errors, _start(request, path, errors) as child:
        clock = threading.Timer(PATIENCE * seconds, child.kill)
        clock.start()
        try:
            assert child.stdout is not None  # noqa: S101
            while line := child.stdout.readline():
                head = json.loads(line)
                if "error" in head:
                    raise _unreadable(path, head["error"], names, max_bytes)
                if "end" in head:
                    return
                yield head, _array(head, child.stdout) if "dtype" in head else None
            raise _unreadable(path, _exit_reason(child.wait(), errors, seconds), names, max_bytes)
        except (EOFError, ValueError) as error:  # it died in the middle of an item
            reason = _exit_reason(child.wait(), errors, seconds)
            raise _unreadable(path, reason, names, max_bytes) from error
        finally:
            clock.cancel()
            child.kill()


def _start(request: dict[str, Any], path: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", os.fspath(_CHILD), json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **threads},
            pipesize=_PIPE_BYTES,
        )
    except OSError as error:
        raise InputError(
            f"{path} must be read in a separate process, but none can be started ({error}); free "
            "some memory or stop other processes"
        ) from error


def _array(head: dict[str, Any], stream: IO[bytes]) -> np.ndarray:
    """Read the array that follows an item's line; raise EOFError if the stream ends early."""
    array = np.empty(math.prod(head["shape"]), head["dtype"])
    content = array.view(np.uint8)
    while len(content):
        count = stream.readinto(content)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        content = content[count:]
    return array.reshape(head["shape"], order=head["order"])


def _exit_reason(code: int, errors: IO[bytes], seconds: int) -> str:
    """Describe how a child ended that gave no complete answer."""
    if code == -signal.SIGXCPU:
        return f"reading took more than {seconds} s of processor time"
    if code == -signal.SIGKILL:
        return f"reading took more than {PATIENCE * seconds} s or ran out of memory"
    if code < 0:
        return f"the reader crashed: {signal.Signals(-code).name}"
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the reader exited with code {code}"


def _unreadable(path: Path, reason: str, names: Sequence[str], max_bytes: int) -> InputError:
    if reason == "too large":
        return InputError(
            f"{path} must have at most {max_bytes:,} bytes in {', '.join(names)}, but has more; "
            "use a smaller file"
        )
    return InputError(
        f"{path} must be an intact Matlab file, but cannot be read ({reason}); it may be damaged "
        "or truncated, so copy or download it again"
    )


def _missing_variable(path: Path, name: str) -> InputError:
    return InputError(
        f"{path} must have the variable {name}, but does not; the file may be truncated or another "
        "one, or have another name for it"
    )


def _matrix(head: dict[str, Any], array: np.ndarray | None, path: Path) -> np.ndarray:
    if array is not None and array.ndim == 2 and array.size:
        return array
    kind = head["kind"] if array is None else f"{array.dtype} of shape {array.shape}"
    must = "be a matrix of real numbers" if array is None or array.ndim != 2 else "not be empty"
    raise InputError(f"{head['name']} of {path} must {must}, but is {kind}; save it as such")


def _text_list(head: dict[str, Any], path: Path) -> tuple[str, ...]:
    other = head.get("other")
    if "texts" not in head:
        other = head.get("kind") or f"{np.dtype(head['dtype'])} of shape {tuple(head['shape'])}"
    if other:
        raise InputError(
            f"{head['name']} of {path} must be a list of text, but contains something else "
            f"({other}); save it as a cell array of char vectors"
        )
    return tuple(text.strip() for text in head["texts"])
