"""Loads every package of a folder under a limit of memory, and tells what was executed.

``python load_packages.py FOLDER BYTES`` prints {"outcomes": [...], "executed": [...]}. Matlab files
are read in forked children, so that the audit hook sees what happens in them too.
"""

import json
import os
import pickle
import resource
import sys
import tempfile
from pathlib import Path

import forked_child
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data import datasets, matlab_child, store
from mianet.data.search_data import load_search_data

EXECUTING = (
    *("pickle.find_class", "exec", "compile", "marshal.loads", "import", "os.system", "os.exec"),
    *("os.posix_spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen", "socket.connect"),
)


def main(folder, memory_bytes):
    datasets.DATASETS = {**datasets.DATASETS, "tiny": TINY}
    store._print = lambda line: None
    forked_child.use()
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile() as seen:
        store.cache_folder = lambda: Path(cache)
        for name, writer in (("v5", None), ("v73", save_hdf5)):  # imports all that loading needs
            package = write_package(Path(cache, name, "TINY"), *tiny_variables(), writer)
            load_search_data("tiny", Path(cache, name))
            read_here(package / "att_splits.mat")
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        armed = [True]
        sys.addaudithook(hook(seen.fileno(), os.getpid(), armed))
        outcomes = [outcome(package) for package in sorted(folder.iterdir())]
        during = events(seen)
        forked_child.in_a_fork(lambda: pickle.loads(b"cbuiltins\nlen\n."))  # noqa: S301
        armed.clear()
        noticed = len(events(seen)) > len(during)
    print(json.dumps({"outcomes": outcomes, "executed": during, "noticed": noticed}))


def read_here(path):
    request = {"path": path, "names": ["att", "allclasses_names"], "max_bytes": 2**20, "rows": None}
    return list(matlab_child.answer(request))


def hook(descriptor, parent, armed):
    """Return a hook that writes down what executes something, in this process and its forks."""

    def see(event, _):
        is_our_fork = event == "os.fork" and os.getpid() == parent
        if armed and event in EXECUTING and not is_our_fork:
            os.write(descriptor, f"{event}\n".encode())

    return see


def events(file):
    file.seek(0)
    return file.read().decode().split()


def outcome(package):
    try:
        load_search_data("tiny", package)
    except Exception as error:
        return type(error).__name__
    return "loaded"


main(Path(sys.argv[1]), int(sys.argv[2]))
