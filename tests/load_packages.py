"""Loads every package of a folder under a limit of memory, and tells what was executed.

``python load_packages.py FOLDER BYTES`` prints {"outcomes": [...], "executed": [...]}.
"""

import json
import pickle
import resource
import sys
import tempfile
from pathlib import Path

from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data import datasets, store
from mianet.data.search_data import load_search_data

EXECUTING = (
    *("pickle.find_class", "exec", "compile", "marshal.loads", "import", "os.system", "os.exec"),
    *("os.posix_spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen", "socket.connect"),
)


def main(folder, memory_bytes):
    datasets.DATASETS = {**datasets.DATASETS, "tiny": TINY}
    store._say = lambda line: None
    with tempfile.TemporaryDirectory() as cache:
        store.CACHE_DIR_VARIABLE = "NONE"
        store.cache_folder = lambda: Path(cache)
        for name, writer in (("v5", None), ("v73", save_hdf5)):  # imports all that loading needs
            write_package(Path(cache, name, "TINY"), *tiny_variables(), writer)
            load_search_data("tiny", Path(cache, name))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        executed, armed = [], [True]
        sys.addaudithook(lambda e, args: executed.append(e) if armed and e in EXECUTING else None)
        outcomes = [outcome(package) for package in sorted(folder.iterdir())]
        during = list(executed)
        pickle.loads(b"cbuiltins\nlen\n.")  # noqa: S301
        armed.clear()
    noticed = len(executed) > len(during)
    print(json.dumps({"outcomes": outcomes, "executed": during, "noticed": noticed}))


def outcome(package):
    try:
        load_search_data("tiny", package)
    except Exception as error:
        return type(error).__name__
    return "loaded"


main(Path(sys.argv[1]), int(sys.argv[2]))
