"""The download command against a real server, which is cut off, stubborn, or malicious."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from mianet import download as module
from mianet.data.datasets import DATASETS
from mianet.download import MEMBERS, download, main
from mianet.errors import InputError

ROOT = Path(__file__).parent.parent


def package(changes=(), drop=(), extra=()):
    """Return an archive of the package's layout with other content, and what its members hold."""
    contents = {member: os.urandom(20_000) for member in MEMBERS if member not in drop}
    contents.update(changes)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xlsa17/code/evaluate.m", "error('not used')")
        file.writestr("__MACOSX/._xlsa17", "")
        for name, content in (*contents.items(), *extra):
            file.writestr(name, content)
    return archive.getvalue(), contents


@dataclass
class Server:
    """What the server gives, and how it behaves.

    ``cuts`` has, per answer, after how many bytes the connection is dropped; ``stall`` is after how
    many it waits to be released.
    """

    content: bytes
    ranges: bool = True
    lengths: bool = True
    status: int | None = None
    stall: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    cuts: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def serve():
    """Start a server on the loopback; all are stopped at the end."""
    running = []

    def start(content, **behaviour):
        server = Server(content, **behaviour)
        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(server)))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"http://127.0.0.1:{running[-1].server_port}/xlsa17.zip"
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def handler(server):
    return type("BoundHandler", (Handler,), {"content_server": server})


class Handler(http.server.BaseHTTPRequestHandler):
    content_server: Server

    def do_GET(self):
        server = self.content_server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start = self.first_byte(asked)
        if server.status:
            self.send_error(server.status)
        elif start is not None and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            body = server.content[start or 0 :]
            self.send_head(start, len(body))
            self.send_body(body)

    def first_byte(self, asked):
        server = self.content_server
        if not (server.ranges and asked):
            return None
        return int(re.fullmatch(r"bytes=(\d+)-", asked)[1])

    def send_head(self, start, length):
        server = self.content_server
        self.send_response(200 if start is None else 206)
        if start is not None:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.lengths:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_body(self, body):
        server = self.content_server
        cut = server.cuts.pop(0) if server.cuts else len(body)
        stall = server.stall
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: min(cut, stall or cut)])
            if stall:
                server.release.wait(60)
                self.wfile.write(body[stall:cut])

    def log_message(self, *_):
        pass


def assert_holds(folder, contents):
    for member, content in contents.items():
        assert (folder / member).read_bytes() == content
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found - {".xlsa17.lock"} == set(contents)


def test_the_members_are_where_the_readers_look():
    folders = {spec.folder for spec in DATASETS.values() if spec.folder}
    assert folders - set(module.PACKAGE_FOLDERS) == {"FLO"}
    assert "xlsa17/data/APY/res101.mat" in MEMBERS


def test_a_whole_download_adds_the_members_and_nothing_else(tmp_path, serve, capsys):
    archive, contents = package()
    server = serve(archive)
    assert main(["--data-dir", str(tmp_path), "--url", server.url]) == 0
    assert_holds(tmp_path, contents)
    out, err = capsys.readouterr()
    assert out == f"10 files added, 0 already present: {tmp_path / 'xlsa17' / 'data'}\n"
    assert "100%" in err
    assert main(["--data-dir", str(tmp_path), "--url", server.url]) == 0
    assert len(server.asked) == 1
    assert "0 files added, 10 already present" in capsys.readouterr().out


def test_an_interrupted_transfer_goes_on_where_it_ended(tmp_path, serve):
    archive, contents = package()
    server = serve(archive, cuts=[50_000, 70_000])
    download(tmp_path, server.url)
    assert server.asked == [None, "bytes=50000-", "bytes=120000-"]
    assert_holds(tmp_path, contents)


def test_a_later_call_goes_on_where_an_earlier_one_ended(tmp_path, serve):
    archive, contents = package()
    server = serve(archive, cuts=[50_000, 0])
    with pytest.raises(InputError, match=r"ended after 50,000 of \d+,\d+ bytes"):
        download(tmp_path, server.url)
    download(tmp_path, server.url)
    assert server.asked == [None, "bytes=50000-", "bytes=50000-"]
    assert_holds(tmp_path, contents)


def test_a_killed_download_goes_on(tmp_path, serve):
    archive, contents = package()
    server = serve(archive, stall=60_000)
    command = [sys.executable, "-m", "mianet.download", "--url", server.url, "--data-dir", tmp_path]
    part = tmp_path / "xlsa17.zip.part"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        while not (part.is_file() and part.stat().st_size == 60_000):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    server.stall = None
    server.release.set()
    download(tmp_path, server.url)
    assert server.asked == [None, "bytes=60000-"]
    assert_holds(tmp_path, contents)


def test_a_server_that_cannot_resume_sends_all_again(tmp_path, serve):
    archive, contents = package()
    server = serve(archive, ranges=False, cuts=[50_000])
    download(tmp_path, server.url)
    assert len(server.asked) == 2
    assert_holds(tmp_path, contents)


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(tmp_path, serve):
    old, _ = package()
    new, contents = package()
    server = serve(old, cuts=[50_000, 0])
    with pytest.raises(InputError):
        download(tmp_path, server.url)
    server.content = new
    with pytest.raises(InputError, match="must be an intact zip archive"):
        download(tmp_path, server.url)
    assert not (tmp_path / "xlsa17").exists()
    download(tmp_path, server.url)
    assert server.asked[-1] is None
    assert_holds(tmp_path, contents)


def test_a_part_that_is_already_whole_is_used(tmp_path, serve):
    archive, contents = package()
    (tmp_path / "xlsa17.zip.part").write_bytes(archive)
    download(tmp_path, serve(archive).url)
    assert_holds(tmp_path, contents)


def test_a_part_longer_than_the_file_is_dropped(tmp_path, serve):
    archive, contents = package()
    (tmp_path / "xlsa17.zip.part").write_bytes(archive + b"more")
    download(tmp_path, serve(archive).url)
    assert_holds(tmp_path, contents)


def test_a_server_that_gives_no_length_will_do(tmp_path, serve):
    archive, contents = package()
    download(tmp_path, serve(archive, lengths=False).url)
    assert_holds(tmp_path, contents)


def test_files_that_are_there_are_kept(tmp_path, serve):
    archive, contents = package()
    own = tmp_path / MEMBERS[0]
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert len(download(tmp_path, serve(archive).url)) == len(MEMBERS) - 1
    assert_holds(tmp_path, {**contents, MEMBERS[0]: b"mine"})


def test_an_archive_put_there_by_hand_is_used_and_kept(tmp_path):
    archive, contents = package()
    (tmp_path / "xlsa17.zip").write_bytes(archive)
    assert main(["--data-dir", str(tmp_path), "--url", "http://127.0.0.1:1/none"]) == 0
    assert_holds(tmp_path, {**contents, "xlsa17.zip": archive})


def corrupt(archive):
    """Change a byte inside of the first member's data."""
    place = archive.index(MEMBERS[0].encode()) + 5_000
    return archive[:place] + bytes([archive[place] ^ 255]) + archive[place + 1 :]


def bomb(archive):
    """Let a member's directory entry declare four billion bytes, thrice."""
    content = bytearray(archive)
    for member in MEMBERS[:3]:
        entry = content.rindex(member.encode()) - 46
        assert content[entry : entry + 4] == b"PK\x01\x02"
        content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    return bytes(content)


def linked():
    """Make a member a symbolic link, whose content is where it leads."""
    archive, _ = package(drop=MEMBERS[:1])
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as written:
        info = zipfile.ZipInfo(MEMBERS[0])
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        written.writestr(info, "/etc/passwd")
    return file.getvalue()


def with_member(content=b"x", **info):
    """Make a member anew, with other properties."""
    archive, _ = package(drop=MEMBERS[:1])
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as written:
        member = zipfile.ZipInfo(info.pop("name", MEMBERS[0]))
        for key, value in info.items():
            setattr(member, key, value)
        written.writestr(member, content)
    return file.getvalue()


def rewritten(archive, offset, value):
    """Change bytes of the first member's directory entry."""
    content = bytearray(archive)
    entry = content.rindex(MEMBERS[0].encode()) - 46
    content[entry + offset : entry + offset + len(value)] = value
    return bytes(content)


def overlapping(archive):
    """Let the second member's entry point to the first one's content."""
    content = bytearray(archive)
    entries = [content.rindex(member.encode()) - 46 for member in MEMBERS[:2]]
    content[entries[1] + 42 : entries[1] + 46] = content[entries[0] + 42 : entries[0] + 46]
    return bytes(content)


WHOLE_ARCHIVE = "must be an intact zip archive"
BAD_ARCHIVES = {
    "another method": (with_member(compress_type=zipfile.ZIP_LZMA), "compressed with deflate"),
    "unknown method": (rewritten(package()[0], 10, b"\x63\x00"), "compressed with deflate"),
    "encrypted": (rewritten(package()[0], 8, b"\x01\x00"), WHOLE_ARCHIVE),
    "says less than it has": (rewritten(package()[0], 24, b"\x05\0\0\0"), WHOLE_ARCHIVE),
    "says more than it has": (rewritten(package()[0], 24, b"\0\0\x10\0"), WHOLE_ARCHIVE),
    "begins elsewhere": (rewritten(package()[0], 42, b"\xff\xff\xff\x7f"), WHOLE_ARCHIVE),
    "overlapping": (overlapping(package()[0]), WHOLE_ARCHIVE),
    "other case": (with_member(name=MEMBERS[0].upper()), r"SUN/res101\.mat is missing"),
    "a folder instead": (with_member(b"", name=MEMBERS[0] + "/"), r"SUN/res101\.mat is missing"),
    "NUL in a name": (
        package(extra=[(MEMBERS[0] + "Z", "")])[0].replace(
            MEMBERS[0].encode() + b"Z", MEMBERS[0].encode() + b"\0"
        ),
        "missing or duplicated|intact zip",
    ),
    "a share of Windows": (package(extra=[("\\\\host\\share\\x", "x")])[0], "only paths inside it"),
    "a name with escapes": (package(extra=[("../\x1b[31m\nevil", "x")])[0], "only paths inside it"),
    "cut short": (package()[0][:-3_000], "must be an intact zip archive"),
    "one byte": (corrupt(package()[0]), "must be an intact zip archive"),
    "a web page": (b"<html>not found</html>" * 1000, "must be an intact zip archive"),
    "empty": (package(drop=MEMBERS)[0], "each of the package's files once, but xlsa17/data/SUN"),
    "a member gone": (package(drop=MEMBERS[3:4])[0], "CUB/att_splits.mat is missing or duplicated"),
    "out of it": (
        package(extra=[("../evil.mat", "x")])[0],
        "only paths inside it, but has '../evil",
    ),
    "deeper": (package(extra=[("xlsa17/data/../../../evil.mat", "x")])[0], "only paths inside it"),
    "absolute": (package(extra=[("/tmp/evil.mat", "x")])[0], "has '/tmp/evil.mat'"),  # noqa: S108
    "drive": (package(extra=[("C:/evil.mat", "x")])[0], "has 'C:/evil.mat'"),
    "backslash": (package(extra=[("..\\evil.mat", "x")])[0], "only paths inside it"),
    "bomb": (bomb(package()[0]), r"must unpack to at most 8,589,934,592 bytes, but declares 12,"),
}


@pytest.mark.parametrize(("archive", "message"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_a_bad_archive_leaves_nothing_behind(tmp_path, serve, capsys, archive, message):
    folder = tmp_path / "data"
    assert main(["--data-dir", str(folder), "--url", serve(archive).url]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert line.isprintable()
    assert re.search(message, line)
    assert {file.name for file in folder.iterdir()} <= {".xlsa17.lock"}
    assert {file.name for file in tmp_path.iterdir()} == {"data"}


def test_a_doubled_member_is_refused(tmp_path, serve):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive, _ = package(extra=[(MEMBERS[0], "twice")])
    with pytest.raises(InputError, match=r"SUN/res101\.mat is missing or duplicated"):
        download(tmp_path, serve(archive).url)


def test_a_link_in_the_archive_becomes_a_plain_file(tmp_path, serve):
    download(tmp_path, serve(linked()).url)
    assert not (tmp_path / MEMBERS[0]).is_symlink()
    assert (tmp_path / MEMBERS[0]).read_text() == "/etc/passwd"


def test_more_than_is_allowed_is_not_taken(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(module, "MAX_ARCHIVE_BYTES", 100_000)
    archive, _ = package()
    for lengths in (True, False):
        with pytest.raises(InputError, match="must send at most 100,000 bytes"):
            download(tmp_path, serve(archive, lengths=lengths).url)


def test_a_full_disk_keeps_what_was_transferred(tmp_path, serve, monkeypatch):
    archive, contents = package(changes={MEMBERS[0]: bytes(500_000)})
    server = serve(archive)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=300_000))
        with pytest.raises(InputError, match="680,000 bytes are needed, but only 300,000 are free"):
            download(tmp_path, server.url)
    assert (tmp_path / "xlsa17.zip.part").read_bytes() == archive
    download(tmp_path, server.url)
    assert server.asked == [None, f"bytes={len(archive)}-"]
    assert_holds(tmp_path, contents)


def test_a_disk_too_full_for_the_archive_is_noticed_before_the_transfer(
    tmp_path, serve, monkeypatch
):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(InputError, match="bytes are needed, but only 100,000 are free"):
        download(tmp_path, serve(package()[0]).url)
    assert not (tmp_path / "xlsa17.zip.part").exists()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("case", ["refused", "no such host", "not found"])
def test_a_closed_network_says_in_one_line_what_to_put_where(tmp_path, serve, capsys, case):
    url = {
        "refused": f"http://127.0.0.1:{closed_port()}/xlsa17.zip",
        "no such host": "http://nowhere.invalid/xlsa17.zip",
        "not found": serve(b"", status=404).url,
    }[case]
    assert main(["--data-dir", str(tmp_path), "--url", url]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    for part in (url, f"save it as {tmp_path / 'xlsa17.zip'}", "{SUN,CUB,AWA1,AWA2,APY}"):
        assert part in line


BAD_URLS = [
    *("file:///etc/passwd", "ftp://127.0.0.1/x", "xlsa17.zip", "", "http://", "http://[::1"),
    *(
        "http://a:port/",
        "http://a:99999/",
        "http://127.0.0.1/é",
        "http://a b/",
        "http://a/\r\nX: 1",
    ),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_only_web_addresses_are_taken(tmp_path, url):
    with pytest.raises(InputError, match="must begin with http:// or https:// and a host"):
        download(tmp_path, url)


def test_two_downloads_into_one_folder_exclude_each_other(tmp_path):
    with FileLock(tmp_path / ".xlsa17.lock"), pytest.raises(InputError, match="wait for it"):
        download(tmp_path, "http://127.0.0.1:1/none")


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data folder must be writable .*--data-dir"):
        download(tmp_path / "file" / "data", "http://127.0.0.1:1/none")


BAD_COMMANDS = {
    "--nope": "unrecognized arguments: --nope",
    "--dat x": "unrecognized arguments: --dat x",
    "--url": "--url: expected one argument",
    "--data-dir ~nosuchuser/x": "must be a path, but got '~nosuchuser/x'",
    "--data-dir /proc/none": "data folder must be writable",
    "--url gopher://x": "must begin with http:// or https://",
    "--x\n\x1b[31m": r"--x\\n\\x1b\[31m",
}


@pytest.mark.parametrize(("options", "message"), BAD_COMMANDS.items())
def test_an_odd_command_line_gets_one_line(monkeypatch, tmp_path, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(options.split(" "))
    except SystemExit as ended:
        code = ended.code
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert line.startswith("error: ")
    assert line.isprintable()
    assert re.search(message, line)


@pytest.mark.parametrize("proxy", ["nonsense", "http://", "http://[::1", "http://127.0.0.1:1"])
def test_an_odd_proxy_gets_one_line(monkeypatch, tmp_path, capsys, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    assert main(["--data-dir", str(tmp_path), "--url", "http://xlsa17.invalid/x.zip"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: xlsa17.zip cannot be downloaded from http://xlsa17.invalid/x.zip"
    )
