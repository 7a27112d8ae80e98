"""The event log: what was written is read back, whatever a crash or a full disk left."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import forks
import pytest
from commands import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import FINAL, OPENED, STUDY

from mianet.errors import InputError
from tuning.events import event as event_module
from tuning.events import log as module
from tuning.events.event import (
    Closed,
    Completed,
    Ended,
    EpochDone,
    Opened,
    Proposed,
    SeedDone,
    TextAdded,
    decoded,
    encoded,
)
from tuning.events.log import (
    CURSOR_FILE,
    LOG_FILE,
    LogBusyError,
    count_waiting,
    open_log,
    read_cursor,
    write_cursor,
)

NUMBERS = st.floats(allow_nan=False)
TEXT = st.text(max_size=8)
VALUES = st.dictionaries(TEXT, NUMBERS, max_size=3)
CONFIGURATIONS = st.dictionaries(TEXT, NUMBERS | TEXT | st.booleans() | st.integers(), max_size=3)
STATUSES = st.sampled_from(["finished", "stopped_early", "infeasible", "failed"])
TRIALS = st.lists(
    st.tuples(
        CONFIGURATIONS,
        st.lists(st.tuples(NUMBERS, VALUES), max_size=3),
        st.none() | st.tuples(STATUSES, st.text(max_size=20)),
    ),
    max_size=4,
)
EVENTS = st.one_of(
    st.builds(
        Opened,
        key=TEXT,
        description=st.just(STUDY),
        tracking_uri=TEXT,
        settings=CONFIGURATIONS,
        hyperparameters=CONFIGURATIONS,
    ),
    st.builds(Opened, key=TEXT, description=st.just(FINAL), provenance=VALUES),
    st.builds(Proposed, st.integers(0, 99), CONFIGURATIONS, TEXT),
    st.builds(EpochDone, st.integers(0), st.integers(1), NUMBERS, st.integers(0), VALUES),
    st.builds(Ended, st.integers(0, 99), TEXT, TEXT),
    st.builds(SeedDone, VALUES),
    st.builds(TextAdded, TEXT, TEXT),
    st.builds(Closed, TEXT, TEXT, VALUES),
    st.builds(Completed),
)


def events_of(trials):
    """Return what happened in trials, one after the other."""
    for number, (configuration, epochs, end) in enumerate(trials):
        yield Proposed(number, configuration, "qmc")
        for epoch, (score, metrics) in enumerate(epochs, 1):
            yield EpochDone(number, epoch, score, 1, metrics)
        if end:
            yield Ended(number, *end)


def written(folder, events, opening=OPENED):
    with open_log(folder) as log:
        log.begin(opening)
        for event in events:
            log.append(event)
    return (folder / LOG_FILE).read_bytes()


def read(folder):
    with open_log(folder) as log:
        return [event for event, _ in log.read()][1:]


@given(EVENTS)
def test_an_event_is_read_back_as_it_was(event):
    again = decoded(json.loads(json.dumps(encoded(event))))
    assert again.time_ms == event.time_ms
    assert encoded(again) == json.loads(json.dumps(encoded(event)))
    if not (isinstance(event, Opened) and event.description is FINAL):  # its seeds are a list now
        assert again == event


@pytest.mark.parametrize(
    "line", [{}, {"event": "nonsense"}, {"event": "ended"}, {"event": "opened", "format": 9}]
)
def test_what_is_no_event_is_refused(line):
    with pytest.raises((KeyError, TypeError, ValueError)):
        decoded(line)


@settings(max_examples=30, deadline=None)
@given(trials=TRIALS, cut=st.integers(0, 10**6))
def test_a_cut_anywhere_loses_the_last_line_at_most(trials, cut, tmp_path_factory):
    folder, events = tmp_path_factory.mktemp("log"), list(events_of(trials))
    content = written(folder, events)
    assert read(folder) == events
    kept = content[: cut % (len(content) + 1)]
    (folder / LOG_FILE).write_bytes(kept)
    whole = kept.count(b"\n") - 1  # the first line opens
    assert read(folder) == events[: max(whole, 0)]
    assert (folder / LOG_FILE).read_bytes() == kept[: kept.rfind(b"\n") + 1]


ENDED = [Proposed(0, {}, "qmc"), Ended(0, "finished", "")]


def test_what_is_appended_after_a_torn_line_is_read(tmp_path):
    content = written(tmp_path, ENDED)
    (tmp_path / LOG_FILE).write_bytes(content + b'{"event":"epo' + bytes(100))
    with open_log(tmp_path) as log:
        log.append(Proposed(1, {}, "qmc"))
    assert read(tmp_path) == [*ENDED, Proposed(1, {}, "qmc")]


@pytest.mark.parametrize("line", [b"rubbish\n", b'{"event":"ended","number":7}\n'])
def test_a_damaged_line_is_named_and_nothing_is_changed(tmp_path, line):
    lines = written(tmp_path, [*ENDED, Proposed(1, {}, "qmc")]).splitlines(keepends=True)
    damaged = lines[0] + line + b"".join(lines[2:])
    (tmp_path / LOG_FILE).write_bytes(damaged)
    with pytest.raises(InputError, match="line 2 of"):
        read(tmp_path)
    assert (tmp_path / LOG_FILE).read_bytes() == damaged


def test_an_event_that_cannot_follow_is_named(tmp_path):
    lines = written(tmp_path, ENDED).splitlines(keepends=True)
    (tmp_path / LOG_FILE).write_bytes(lines[0] + lines[2] + lines[1])
    with pytest.raises(InputError, match=r"line 2 of .*trial 0 must be running, but was never"):
        read(tmp_path)


def test_another_format_is_an_error(tmp_path):
    content = written(tmp_path, [])
    (tmp_path / LOG_FILE).write_bytes(content.replace(b'"format":1', b'"format":9'))
    with pytest.raises(InputError, match="has format 9, but this version reads format 1"):
        read(tmp_path)
    assert b'"format":9' in (tmp_path / LOG_FILE).read_bytes()


def test_an_event_that_cannot_have_happened_is_not_written(tmp_path):
    with open_log(tmp_path) as log:
        log.begin(OPENED)
        log.append(Proposed(0, {}, "qmc"))
        for wrong, message in (
            (Proposed(0, {}, "qmc"), "proposed only once"),
            (EpochDone(1, 1, 0.5, 1, {}), "never proposed"),
            (Ended(0, "interrupted", ""), "must end as one of"),
        ):
            with pytest.raises(ValueError, match=message):
                log.append(wrong)
        log.append(Ended(0, "failed", ""))
        with pytest.raises(ValueError, match=r"has ended .failed."):
            log.append(EpochDone(0, 1, 0.5, 1, {}))
    assert len(read(tmp_path)) == 2


def test_time_is_summed_over_processes_and_completeness_ends_with_the_next_event(
    tmp_path, monkeypatch
):
    clock = iter([100_000, 104_000, 107_000, 1000_000, 1001_000, 1002_000, 1003_000, 5000_000])
    monkeypatch.setattr(event_module, "now_ms", lambda: next(clock))
    opening = Opened(key="k", description=STUDY)
    happened = (lambda: Proposed(0, {}, ""), lambda: Ended(0, "finished", ""))
    written(tmp_path, (make() for make in happened), opening)
    with open_log(tmp_path) as log:
        assert (log.state.seconds, log.state.is_complete) == (7.0, False)
        log.begin(Opened(key="k", description=STUDY, settings={"a": 2}))
        log.append(Proposed(1, {}, ""))
        log.append(Ended(1, "finished", ""))
        log.append(Completed())
    with open_log(tmp_path) as log:
        assert log.state.is_complete
        assert log.state.opening.settings == {"a": 2}
        assert log.state.seconds == 7.0 + 3.0
        log.append(Proposed(2, {}, ""))
        assert not log.state.is_complete


# One process at a time


HOLDER = """
import sys, time
from pathlib import Path
from tuning.events.log import open_log
with open_log(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_went(tmp_path):
    folder = tmp_path / "study"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LogBusyError, match=f"is being searched by process {holder.pid} on"):
            read(folder)
    finally:
        holder.kill()
        holder.wait(30)
    assert read(folder) == []


def test_a_folder_that_cannot_be_written_is_an_error_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"but .*file/study is not \(Not a directory\)"):
        read(tmp_path / "file" / "study")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from recorded import OPENED
from tuning.events.event import EpochDone, Proposed
from tuning.events.log import open_log
with open_log(Path(sys.argv[1])) as log:
    log.begin(OPENED)
    log.append(Proposed(0, {}, "qmc"))
    log.append(EpochDone(0, 1, 0.5, 1, {}))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_it_appended_and_the_lock_open(tmp_path):
    forks.run_code(KILLED, tmp_path, ROOT / "tests")
    assert read(tmp_path) == [Proposed(0, {}, "qmc"), EpochDone(0, 1, 0.5, 1, {})]


# The disk


def test_proposals_and_ends_wait_for_the_disk_and_take_the_epochs_along(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        module.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size)
    )
    with open_log(tmp_path) as log:
        log.begin(OPENED)
        log.append(Proposed(0, {}, "qmc"))
        assert len(synced) == 2
        for epoch in range(1, 6):
            log.append(EpochDone(0, epoch, 0.5, 1, {}))
        assert len(synced) == 2
        assert len(list(log.read())) == 2, "nobody acts on what is not on the disk"
        log.sync()
        assert len(list(log.read())) == 7
        log.append(Ended(0, "finished", ""))
        assert synced[-1] == log.end == (tmp_path / LOG_FILE).stat().st_size
    assert len(synced) == 4


class Disk:
    """A disk that can be full, or lose what it has not yet kept; each write takes 10 bytes."""

    def __init__(self, monkeypatch):
        self.full = self.forgetful = False
        self._write, self._sync = os.pwrite, os.fsync
        monkeypatch.setattr(module.os, "pwrite", self.pwrite)
        monkeypatch.setattr(module.os, "fsync", self.fsync)
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)

    def pwrite(self, descriptor, data, offset):
        if self.full and len(data) <= 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data[:10], offset)

    def fsync(self, descriptor):
        if self.forgetful:
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.mark.parametrize("fault", ["full", "forgetful"])
def test_without_room_events_wait_in_memory_and_are_written_once_there_is(
    tmp_path, disk, caplog, fault
):
    epochs = [EpochDone(0, epoch, 0.5, 1, {"a": 0.5}) for epoch in range(1, 301)]
    with open_log(tmp_path) as log:
        log.begin(OPENED)
        log.append(Proposed(0, {}, "qmc"))
        whole = (tmp_path / LOG_FILE).read_bytes()
        setattr(disk, fault, True)
        started = time.monotonic()
        for event in epochs[:200]:
            log.append(event)
        log.sync()
        assert time.monotonic() - started < 5, "a full disk holds nobody up"
        assert (tmp_path / LOG_FILE).read_bytes() == whole, "no half line stays"
        assert log.unsaved == epochs[:200]
        assert log.state.trials[0].epoch == 200
        assert caplog.text.count("keeps its events in memory; free some disk space") == 1
        setattr(disk, fault, False)
        for event in epochs[200:]:
            log.append(event)
        log.sync()
        assert not log.problem
        assert log.unsaved == []
    assert read(tmp_path) == [Proposed(0, {}, "qmc"), *epochs]
    assert "can be written again; nothing was lost" in caplog.text


def test_what_was_never_written_is_said_to_be_missing(tmp_path, disk, caplog):
    with open_log(tmp_path) as log:
        log.begin(OPENED)
        disk.full = True
        log.append(Proposed(0, {}, "qmc"))
    assert "1 events could not be saved" in caplog.text
    disk.full = False
    assert read(tmp_path) == []


def test_a_full_disk_at_the_start_is_an_error_and_leaves_no_half_line(tmp_path, disk, caplog):
    disk.full = True
    with open_log(tmp_path) as log:
        with pytest.raises(InputError, match=r"No space left on device.; free some space"):
            log.begin(OPENED)
        log.discard()
    assert not (tmp_path / LOG_FILE).exists()
    assert caplog.text == ""


# Cursors


def test_what_waits_is_counted_without_opening(tmp_path):
    assert count_waiting(tmp_path) == 0
    written(tmp_path, ENDED)
    assert count_waiting(tmp_path) == 3
    with open_log(tmp_path) as log:
        ends = [end for _, end in log.read()]
        write_cursor(tmp_path, ends[1])
        assert (read_cursor(tmp_path), count_waiting(tmp_path)) == (ends[1], 1)
        write_cursor(tmp_path, ends[2])
        log.append(Completed())
    assert count_waiting(tmp_path) == 0, "MLflow is told nothing of that"
    (tmp_path / CURSOR_FILE).write_text("rubbish")
    assert count_waiting(tmp_path) == 3


def test_a_discarded_log_leaves_nothing(tmp_path):
    folder = tmp_path / "study"
    with open_log(folder) as log:
        log.begin(OPENED)
        write_cursor(folder, 1)
        log.discard()
    assert not Path(folder).exists()
