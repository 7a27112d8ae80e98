"""Downloads the field's package: ``python -m mianet.download [--data-dir DIR] [--url URL]``.

The package (Xian et al., proposed split) is one archive of all five data sets. It is checked before
any of it is used; existing files are never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import re
import shutil
import ssl
import struct
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from mianet.command import Parser, run
from mianet.data.folders import FEATURES_FILE, SPLITS_FILE
from mianet.data.sources import DATA_DIR_VARIABLE, PACKAGE_FOLDERS, PACKAGE_PATH, data_root
from mianet.errors import InputError

PACKAGE_URL = "http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip"
MEMBERS = tuple(
    (PACKAGE_PATH / folder / file).as_posix()
    for folder in PACKAGE_FOLDERS
    for file in (FEATURES_FILE, SPLITS_FILE)
)
"""The files used; their paths in the archive and below the data folder are the same."""

ARCHIVE = "xlsa17.zip"
WORK_PREFIX = ".xlsa17-"
MAX_ARCHIVE_BYTES = 4 * 2**30
"""The published archive has 0.9 GB."""
MAX_UNPACKED_BYTES = 8 * 2**30
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error)
_NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError)


def download(data_dir: Path | None = None, url: str = PACKAGE_URL) -> list[Path]:
    """Download, check and unpack the package; return the files that were added.

    An archive ``xlsa17.zip`` in the data folder is used and kept, without any download.
    """
    root = data_root(data_dir)
    missing = [member for member in MEMBERS if not (root / member).exists()]
    if not missing:
        return []
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            if (root / ARCHIVE).is_file():
                return _unpack(root / ARCHIVE, root, missing)
            part = root / f"{ARCHIVE}.part"
            _fetch(url, part)
            try:
                added = _unpack(part, root, missing)
            except InputError:  # the archive is useless; after any other error it can be reused
                part.unlink()
                raise
            part.unlink()
            return added
    except OSError as error:
        raise InputError(
            f"the data folder must be writable and have enough free space, but {root} fails "
            f"({error}); choose another with --data-dir or {DATA_DIR_VARIABLE}"
        ) from error


def _fetch(url: str, part: Path) -> None:
    """Download a file, resuming where an earlier transfer ended.

    Existing content is assumed to be the start of an earlier transfer. If the server has another
    version by now, the archive's checksums reveal that when it is unpacked.
    """
    if not _is_web_address(url):
        raise InputError(
            "the address must begin with http:// or https:// and a host, in ASCII without spaces, "
            f"but got {url!r}; give another with --url"
        )
    while True:
        before = _size(part)
        try:
            total = _transfer(url, part)
            if total == _size(part):
                return
            reason = f"it ended after {_size(part):,} of {total:,} bytes"
        except (*_NO_NETWORK, ConnectionError, TimeoutError, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error)  # ValueError: an invalid redirect
        if _size(part) <= before:
            raise InputError(
                f"{ARCHIVE} cannot be downloaded from {url} ({reason}); download it elsewhere, "
                f"save it as {part.parent / ARCHIVE} and repeat the command, or unpack it to "
                f"{part.parent / PACKAGE_PATH}/{{{','.join(PACKAGE_FOLDERS)}}}/"
                f"{{{FEATURES_FILE},{SPLITS_FILE}}}"
            )


def _unpack(archive: Path, root: Path, members: Sequence[str]) -> list[Path]:
    """Check an archive, and unpack all the given members below a folder, or none."""
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=root))
    try:
        with zipfile.ZipFile(archive) as package:
            _check_members(package, archive)
            _check_space(root, sum(package.getinfo(member).file_size for member in members))
            for member in members:
                _unpack_member(package, member, work / member)
    except (*_DAMAGE, EOFError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{archive} must be an intact zip archive, but is not ({error}); download it again"
        ) from error
    else:
        for member in members:
            (root / member).parent.mkdir(parents=True, exist_ok=True)
            (work / member).replace(root / member)
        return [root / member for member in members]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m mianet.download", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--data-dir", type=Path, help=f"destination (default: ${DATA_DIR_VARIABLE}, else ./data)"
    )
    parser.add_argument(
        "--url", default=PACKAGE_URL, help="address of the package (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    return run(
        lambda: _download(options.data_dir, options.url),
        interrupted="interrupted; repeat the command to resume",
    )


def _download(data_dir: Path | None, url: str) -> int:
    added = download(data_dir, url)
    present, folder = len(MEMBERS) - len(added), data_root(data_dir) / PACKAGE_PATH
    print(f"{len(added)} files added, {present} already present: {folder}")
    return 0


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, or an invalid host in brackets
        return False
    return is_web and re.fullmatch(r"[!-~]+", url) is not None


def _transfer(url: str, part: Path) -> int:
    """Resume or start a transfer; return the length of the complete file."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "mianet-download"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  the scheme is checked
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        if _content_range(error.headers)[1] == start:
            return start  # all of it is here
        part.unlink()
        return _transfer(url, part)
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        elif _content_range(response.headers)[0] != start:
            part.unlink()
            return _transfer(url, part)
        total = None if response.length is None else start + response.length
        _check_space(part.parent, (total or 0) - start)
        with (
            part.open("ab" if start else "wb", buffering=0) as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=ARCHIVE) as bar,
        ):
            while chunk := response.read1(CHUNK_BYTES):  # what has arrived, so that little is lost
                if file.tell() + len(chunk) > MAX_ARCHIVE_BYTES:
                    raise InputError(
                        f"{url} must send at most {MAX_ARCHIVE_BYTES:,} bytes, but sends more; "
                        "give another with --url"
                    )
                file.write(chunk)
                bar.update(len(chunk))
    return _size(part) if total is None else total


def _content_range(headers: Message) -> tuple[int, int]:
    """Return the a and the total of ``bytes a-b/total`` or ``bytes */total``; -1 for neither."""
    form = r"bytes (?:([0-9]{1,18})-[0-9]+|\*)/([0-9]{1,18}|\*)"
    found = re.fullmatch(form, headers.get("Content-Range", ""))
    start, total = found.groups() if found else (None, None)
    return int(start or -1), int(total) if total and total != "*" else -1


def _check_members(package: zipfile.ZipFile, archive: Path) -> None:
    names = package.namelist()
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise InputError(
                f"{archive} must contain only paths inside it, but has {name!r}; do not use it"
            )
    if absent := [member for member in MEMBERS if names.count(member) != 1]:
        raise InputError(
            f"{archive} must contain each of the package's files once, but {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing or duplicated; use the published one"
        )
    if odd := [m for m in MEMBERS if package.getinfo(m).compress_type not in METHODS]:
        raise InputError(
            f"{archive} must be compressed with deflate, as published, but {odd[0]} is not; use "
            "the published one"
        )
    unpacked = sum(package.getinfo(member).file_size for member in MEMBERS)
    if unpacked > MAX_UNPACKED_BYTES:
        raise InputError(
            f"{archive} must unpack to at most {MAX_UNPACKED_BYTES:,} bytes, but declares "
            f"{unpacked:,}; use the published one"
        )


def _unpack_member(package: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write a member; its CRC-32 is checked when its end is read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = package.getinfo(member).file_size
    with (
        package.open(member) as compressed,
        tqdm.wrapattr(compressed, "read", total=size, desc=member) as source,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(source, file, CHUNK_BYTES)
        if file.tell() != size:
            raise zipfile.BadZipFile(f"{member} has {file.tell():,} of {size:,} bytes")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed, but only {free:,} are free")


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Lock the data folder, and remove what a killed command left in it."""
    try:
        with FileLock(root / ".xlsa17.lock", timeout=0):
            for leftover in root.glob(f"{WORK_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield
    except Timeout as error:
        raise InputError(
            f"another process is downloading to {root}; wait for it to finish"
        ) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
