"""Bring data sets to this node: from a bucket or a shared folder, checked, and converted once.

    python infra/stage.py s3://my-bucket/xlsa17/data aPY AWA1

A data set is fetched if its files are not here or their sizes differ, checked against a SHA256SUMS
beside them if there is one, and converted into the node's store, which all processes map.
A search needs this on the driver's node only: the others get the search's part from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from mianet.data.datasets import find_dataset, is_known
from mianet.data.extracted import BACKBONE_FILE
from mianet.data.files import file_digest, replacing
from mianet.data.folders import FEATURES_FILE, SPLITS_FILE
from mianet.data.search_data import load_search_data
from mianet.data.sources import data_root, is_path
from mianet.errors import InputError
from tuning.cli.command_line import Parser, command

SUMS_FILE = "SHA256SUMS"


@command
def main() -> int:
    parser = Parser("Bring data sets to this node.")
    parser.add_argument("source", help="s3://, gs:// or a folder that holds APY/res101.mat, …")
    parser.add_argument("datasets", nargs="*", help="SUN, CUB, AWA1, …, or a folder's name")
    parser.add_argument(
        "--class-embedding",
        action="append",
        default=[],
        metavar="FILE",
        help="a class embedding of these data sets, as its path in the source: AWA1/words.npy",
    )
    options = parser.parse_args()
    embedding = [fetch_embedding(options.source, file) for file in options.class_embedding]
    for name in options.datasets:
        if folder := folder_of(name):
            fetch(options.source, folder)
        data = load_search_data(name, embedding=embedding)
        described = data.class_embedding and f"classes described by {data.class_embedding}, "
        print(
            f"{data.name}: {len(data.labels)} trainval images, {described}digest {data.digest}",
            flush=True,
        )
    return 0


def folder_of(name: str) -> str:
    """Return the folder of a data set in the source; empty where it needs no files."""
    if is_path(name):
        raise InputError(f"a data set must be a folder's name in the source, but got {name!r}")
    spec = find_dataset(name).spec if is_known(name) else None
    return spec.folder if spec else name


def fetch_embedding(source: str, file: str) -> str:
    """Fetch the file of a class embedding; return where it is, with the matrix that was named."""
    stem, mat, key = file.partition(".mat:")
    path = PurePosixPath(stem + mat.rstrip(":"))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"--class-embedding must be a path in the source, but got {file!r}")
    fetch(source, str(path.parent), (path.name,))
    return f"{data_root() / path}{':' + key if key else ''}"


def fetch(source: str, folder: str, names: Sequence[str] = (FEATURES_FILE, SPLITS_FILE)) -> None:
    """Copy the files that are missing or of another size; each appears whole or not at all.

    Args:
        source: Where from.
        folder: The folder in it, and in this node's data folder.
        names: The files; descriptions beside them of how they were made are copied, too.

    Raises:
        InputError: The source has no such file, or what arrived does not match its SHA256SUMS.
    """
    try:
        files, root = fs.FileSystem.from_uri(
            source if "://" in source else str(Path(source).absolute())
        )
        remote_folder = str(PurePosixPath(root, folder))
        sums = _sums(files, f"{remote_folder}/{SUMS_FILE}")
        target = data_root() / folder
        target.mkdir(parents=True, exist_ok=True)
        for name in (*names, *(f"{file}.json" for file in names), BACKBONE_FILE):
            info, path = files.get_file_info(f"{remote_folder}/{name}"), target / name
            if info.type == fs.FileType.File:
                if not (path.is_file() and path.stat().st_size == info.size):
                    print(f"fetching {folder}/{name}, {info.size / 1e6:.0f} MB", flush=True)
                    _copy(files, info.path, path, sums.get(name))
            elif name in names:  # what says how features were made may be missing
                raise InputError(
                    f"the source must contain {folder}/{name}, but {source} does not; give the "
                    "folder that holds the data sets' folders"
                )
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"the source must be readable from this node, but {source} is not ({error}); check its "
            "address and the node's permissions"
        ) from error


def _sums(files: fs.FileSystem, path: str) -> dict[str, str]:
    """Return file → sha256, as ``sha256sum`` writes them; empty without such a file."""
    if files.get_file_info(path).type != fs.FileType.File:
        return {}
    with files.open_input_stream(path) as stream:
        lines = stream.read().decode().splitlines()
    return {name.lstrip("*"): digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def _copy(files: fs.FileSystem, remote: str, path: Path, wanted: str | None) -> None:
    with replacing(path) as new:
        with files.open_input_stream(remote) as stream, new.open("wb") as file:
            shutil.copyfileobj(stream, file, 2**22)
        if wanted and (found := file_digest(new)) != wanted:
            raise InputError(
                f"{remote} must have the sha256 that {SUMS_FILE} gives, {wanted}, but has {found}; "
                "upload it again"
            )


if __name__ == "__main__":
    main()
