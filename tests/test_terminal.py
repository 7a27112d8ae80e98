"""What a person watches: a status line in a real terminal, plain lines everywhere else."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest
from commands import SMALL, environment, fork

from tuning.compute import display
from tuning.compute.display import Pace, StatusLine, clock, time_words

SHOW = """
from tuning.compute.display import StatusLine
with StatusLine() as line:
    line.say("first")
    line.show(1, 2, "a long status " * 20)
    line.say("second")
    line.say("third")
print("after")
"""


def shown(**changes):
    """Return what SHOW writes to a terminal."""

    def start(terminal):
        with open(terminal, "w") as file:
            return subprocess.Popen(
                [sys.executable, "-c", SHOW],
                stdout=file,
                stderr=file,
                env=environment(**{"TERM": "xterm", **changes}),
                start_new_session=True,
            ).poll

    return written_to_a_terminal(start, columns=60)


def written_to_a_terminal(start, columns):
    """Return all that a process writes to a terminal.

    Args:
        start: Starts it, given the terminal's path; returns what returns its exit code, if any.
        columns: The terminal's width.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    exit_code = start(os.ttyname(theirs))
    written, deadline = b"", time.monotonic() + 240
    while select.select([ours], [], [], 0.1)[0] or exit_code() is None:
        assert time.monotonic() < deadline, written[-2000:].decode(errors="replace")
        if select.select([ours], [], [], 0)[0]:
            written += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert exit_code() == 0, written[-2000:].decode(errors="replace")
    return written.decode()


def screen(written):
    """Return the lines that a terminal shows in the end: what these few controls do to it."""
    lines, column = [""], 0
    for control, letters in re.findall(r"(\r|\n)|([^\r\n]+)", written.replace("\x1b[A", "")):
        if control == "\r":
            column = 0
        elif control == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column] + letters + lines[-1][column + len(letters) :]
            column += len(letters)
    return [line.rstrip() for line in lines]


def test_a_terminal_keeps_the_lines_and_nothing_of_the_status():
    written = shown()
    assert screen(written) == ["first", "second", "third", "after", ""]


def test_the_status_lies_below_the_lines_and_never_wraps():
    written = shown()
    before_the_end = screen(written[: written.rindex("a long status") + 30])
    assert before_the_end[:3] == ["first", "second", "third"]
    assert re.match("[█▌ #]{20} a long status a long", before_the_end[3])
    statuses = re.findall(r"\r([^\r\n]*a long[^\r\n]*)", written)
    assert len(statuses) >= 3
    assert all(len(text) <= 60 for text in statuses)


@pytest.mark.parametrize("changes", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_that_cannot_gets_plain_lines(changes):
    written = shown(**changes)
    assert written.split("\r\n") == ["first", "second", "third", "after", ""]


def test_a_pipe_gets_plain_lines():
    ended = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        env=environment(TERM="xterm"),
        timeout=120,
        check=True,
    )
    assert ended.stdout == "first\nsecond\nthird\nafter\n"


def test_without_a_terminal_the_status_is_a_line_now_and_then(monkeypatch, capsys):
    now = Clock()
    monkeypatch.setattr(display.time, "monotonic", now)
    with StatusLine() as line:
        for second in range(25):
            now.now = 100.0 + second
            line.show(second, 25, f"{second}/25")
            if second == 12:
                line.say("said")
    assert capsys.readouterr().out.splitlines() == ["10/25", "said", "22/25"]


@pytest.mark.timeout(420)
def test_a_search_in_a_terminal_shows_how_it_stands(tmp_path):
    options = ("--dataset", "numbers", "--trials", "4", "--workers", "1", "--no-final", *SMALL)

    def start(terminal):
        files = {"out": terminal, "err": terminal}
        more = ("--fresh-draws", "2")
        process = fork("search", *options, *more, cwd=tmp_path, TERM="xterm", **files)
        return lambda: process.exitcode

    written = written_to_a_terminal(start, columns=150)
    standing = re.findall(r"\r.{20} (\d/4 · \d running[^\r\n]*)", written)
    assert any(re.search(r"best AUSUC \d+\.\d\d \(trial \d\)", s) for s in standing)
    done = [s.rstrip() for s in standing if s[0] in "123"]
    assert done  # how long the rest takes is known from the first trial's end on
    assert all(re.search(r"\d:\d\d, (about \d+:\d\d left|nearly done)$", s) for s in done)
    lines = screen(written)
    assert sum("/4 trial" in line for line in lines) == 4
    assert not any("running ·" in line for line in lines)
    labels = [line.split(" ")[0] for line in lines[-5:] if re.match(r"\w", line)]
    assert labels == ["found", "report", "MLflow"]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_rest_is_known_once_a_trial_has_ended():
    clock = Clock()
    pace = Pace(workers=2, now=clock)
    for number in range(2):
        pace.started(number)
    clock.now += 10
    assert pace.remaining(6) is None
    pace.ended(0)
    pace.started(2)
    # 10 s a trial: one has done 10 s, one nothing, three wait, two go at once.
    assert pace.remaining(5) == pytest.approx((0 + 10 + 3 * 10) / 2)
    clock.now += 4
    assert pace.remaining(5) == pytest.approx((0 + 6 + 30) / 2)
    assert pace.remaining(0) == 0


def test_the_last_trial_takes_its_own_time_however_many_workers_there_are():
    clock = Clock()
    pace = Pace(workers=8, now=clock)
    pace.started(0)
    clock.now += 30
    pace.ended(0)
    pace.ended(7)  # of an earlier process: its start is not known
    pace.started(1)
    assert pace.remaining(1) == pytest.approx(30)


def test_times_in_words():
    assert [clock(s) for s in (0.9, 65, 3600 + 62)] == ["0:00", "1:05", "1:01:02"]
    assert time_words(65, None) == "1:05"
    assert time_words(65, 3.9) == "1:05, about 0:03 left"
    assert time_words(65, 0.9) == "1:05, nearly done"
