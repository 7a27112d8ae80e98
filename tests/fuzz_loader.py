"""Changes bytes of data packages and stores, and loads them: a load or an InputError, never more.

``python tests/fuzz_loader.py --seconds 600 --seed 1`` runs long; what it finds stays in the folder
that it names, as a package to load again. Each load is a process of its own with limits of time and
memory, so that a crash, a hang and a process that grows are found as well.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_child
import scipy.io
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data import datasets, store
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import InputError

CPU_SECONDS, SECONDS, MEMORY_BYTES = 20, 600, 4 * 2**30
"""Limits of one load, which takes some milliseconds and megabytes; a busy machine is patient."""
LOADED, REFUSED, LEFTOVERS, UNCLEAR, OTHER = range(5)
OUTCOMES = ("loaded", "refused", "leaves files behind", "more than one line", "another exception")
SPECIAL = (b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00")


def packed_mat(path, variables):
    scipy.io.savemat(path, variables, do_compression=True)


WRITERS: dict[str, Callable[..., None]] = {
    "v5": scipy.io.savemat,
    "v7": packed_mat,
    "v7.3": save_hdf5,
    "store": scipy.io.savemat,
    "forged store": scipy.io.savemat,
}
"""Kind → the writer of its package; of a store its files are changed, and its record forged."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return the content with a few bytes changed, copied, removed, put in, or its end cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(changed) or 1)
        match rng.randrange(8):
            case 0 | 1:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 2:
                changed[place : place + 1] = bytes(
                    [content[place % len(content)] ^ 1 << rng.randrange(8)]
                )
            case 3 | 4:
                special = rng.choice(SPECIAL)
                changed[place : place + len(special)] = special
            case 5:
                start, length = rng.randrange(len(changed) or 1), rng.randrange(1, 256)
                changed[place : place + length] = changed[start : start + length]
            case 6:
                start, length = rng.randrange(len(changed) or 1), rng.randrange(1, 64)
                changed[place:place] = changed[start : start + length]
            case 7:
                del changed[place : place + rng.choice((1, 8, 64, len(changed)))]
    return bytes(changed)


class Case:
    """A tiny package with its store; one file of it is changed, and put back."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.data = folder / "data"
        self.cache = folder / "cache"
        write_package(self.data / "TINY", *tiny_variables(), WRITERS[kind])
        self.digests = whole_load(self.data, self.cache)
        self.is_store = "store" in kind
        root = self.cache if self.is_store else self.data
        self.files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "lock")
        self.contents = {path: path.read_bytes() for path in self.files}

    def change(self, rng: random.Random) -> Path:
        """Change a file; a forged store has a record that agrees with it."""
        path = rng.choice(self.files)
        content = mutate(self.contents[path], rng)
        path.write_bytes(content)
        if self.kind == "forged store" and path.suffix == ".npy":
            record = next(self.cache.rglob("current.json"))
            values = json.loads(record.read_bytes())
            name = f"{path.parent.name}/{path.name}"
            values["files"][name] = [len(content), zlib.crc32(content)]
            record.write_text(json.dumps(values))
        elif not self.is_store:
            shutil.rmtree(self.cache, ignore_errors=True)
        return path

    def restore(self) -> None:
        if self.is_store:
            shutil.rmtree(self.cache)
        for path, content in self.contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def whole_load(data: Path, cache: Path) -> tuple[int, int]:
    """Load all parts, touch every number, and return checksums."""
    store.cache_folder = lambda: cache
    search, test = load_search_data("tiny", data), load_test_parts("tiny", data)
    return tuple(
        zlib.crc32(b"".join(v.tobytes() for v in vars(part).values() if hasattr(v, "tobytes")))
        for part in (search, test)
    )


def outcome_of(case: Case) -> int:
    """Load, in this process."""
    try:
        digests = whole_load(case.data, case.cache)
    except InputError as error:
        left = [p for p in case.cache.rglob("*") if p.is_file() and p.name != "lock"]
        if left and not case.is_store:
            return LEFTOVERS
        return REFUSED if str(error).isprintable() else UNCLEAR
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return OTHER
    # Without a forged checksum, a damaged store must give what it gave before.
    return LOADED if case.kind != "store" or digests == case.digests else OTHER


def limited(case: Case) -> str:
    """Load in a process of its own with limits; return what became of it."""
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)  # ends the process: nothing here handles it
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os._exit(outcome_of(case))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return OUTCOMES[os.WEXITSTATUS(status)]


def fuzz(
    folder: Path, kinds: list[str], seed: int, go_on: Iterator[object]
) -> dict[str, collections.Counter[str]]:
    """Change, load and put back as often as asked; return kind → outcome → number."""
    datasets.DATASETS = {**datasets.DATASETS, "tiny": TINY}
    store._print = lambda line: None
    forked_child.use()
    rng = random.Random(seed)
    cases = [Case(folder / kind.replace(" ", "-"), kind) for kind in kinds]
    counts = {kind: collections.Counter[str]() for kind in kinds}
    for turn, _ in enumerate(go_on):
        case = cases[turn % len(cases)]
        path = case.change(rng)
        spoilt = path.read_bytes()
        outcome = limited(case)
        counts[case.kind][outcome] += 1
        if outcome not in OUTCOMES[:2]:
            found = folder / "found" / f"{seed}-{turn} {case.kind} {outcome} {path.name}"
            found.parent.mkdir(exist_ok=True)
            found.write_bytes(spoilt)
        case.restore()
    return counts


def until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--loads", type=int, help="this many instead of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=WRITERS, default=list(WRITERS))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-loader-"))
    go_on = range(options.loads) if options.loads else until(time.monotonic() + options.seconds)
    counts = fuzz(folder, options.kinds, options.seed, iter(go_on))
    print(json.dumps(counts))
    if (folder / "found").exists():
        print(f"found: see {folder / 'found'}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
