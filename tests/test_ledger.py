"""The ledger: what was written is read back, whatever a crash left; one process holds it."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mianet.errors import InputError
from tuning.events import ledger as module
from tuning.events.ledger import LEDGER_FILE, Ended, EpochDone, Proposed, hold

NUMBERS = st.floats(allow_nan=False)
EVENTS = st.lists(
    st.one_of(
        st.builds(
            Proposed,
            st.integers(0, 99),
            st.dictionaries(st.text(max_size=5), NUMBERS | st.text(max_size=5), max_size=3),
            st.text(max_size=5),
        ),
        st.builds(
            EpochDone,
            st.integers(0, 99),
            st.integers(1, 99),
            NUMBERS,
            st.integers(0, 99),
            st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3),
        ),
        st.builds(Ended, st.integers(0, 99), st.text(max_size=5), st.text(max_size=20)),
    ),
    max_size=6,
)


def written(folder, events, settings=None):
    with hold(folder) as ledger:
        ledger.begin(settings or {"a": 1})
        for event in events:
            ledger.add(event)
    return (folder / LEDGER_FILE).read_bytes()


def read(folder):
    with hold(folder) as ledger:
        return list(ledger.events)


@settings(max_examples=30, deadline=None)
@given(events=EVENTS, cut=st.integers(0, 10**6))
def test_a_cut_anywhere_loses_the_last_line_at_most(events, cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    content = written(folder, events)
    assert read(folder) == events
    kept = content[: cut % (len(content) + 1)]
    (folder / LEDGER_FILE).write_bytes(kept)
    whole = kept.count(b"\n") - 1  # the first line opens
    assert read(folder) == events[: max(whole, 0)]
    assert (folder / LEDGER_FILE).read_bytes() == kept[: kept.rfind(b"\n") + 1]


def test_what_is_added_after_a_torn_line_is_read(tmp_path):
    content = written(tmp_path, [Ended(0, "finished", "")])
    (tmp_path / LEDGER_FILE).write_bytes(content + b'{"event":"epo' + bytes(100))
    with hold(tmp_path) as ledger:
        ledger.add(Ended(1, "failed", "x"))
    assert read(tmp_path) == [Ended(0, "finished", ""), Ended(1, "failed", "x")]


def test_damage_in_the_middle_is_an_error_and_changes_nothing(tmp_path):
    content = written(tmp_path, [Ended(0, "finished", ""), Ended(1, "finished", "")])
    lines = content.splitlines(keepends=True)
    damaged = lines[0] + b"rubbish\n" + lines[2]
    (tmp_path / LEDGER_FILE).write_bytes(damaged)
    with pytest.raises(InputError, match="line 2 of"):
        read(tmp_path)
    assert (tmp_path / LEDGER_FILE).read_bytes() == damaged


def test_another_format_is_an_error(tmp_path):
    content = written(tmp_path, [])
    (tmp_path / LEDGER_FILE).write_bytes(content.replace(b'"format":1', b'"format":9'))
    with pytest.raises(InputError, match="another version"):
        read(tmp_path)


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_line(tmp_path, monkeypatch):
    really = os.write
    with hold(tmp_path) as ledger:
        ledger.begin({"a": 1})

        def full(descriptor, content):
            if len(content) > 10:
                return really(descriptor, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(module.os, "write", full)
        with pytest.raises(InputError, match="make room, then go on with --resume"):
            ledger.add(Ended(0, "finished", ""))
        monkeypatch.undo()
        ledger.add(Ended(1, "finished", ""))
    assert read(tmp_path) == [Ended(1, "finished", "")]


def test_time_is_summed_over_processes_and_completeness_ends_with_the_next_event(tmp_path):
    clock = iter([100.0, 107.0, 1000.0, 1002.0, 1003.0, 5000.0])
    module_time, module.time.time = module.time.time, lambda: next(clock)
    try:
        written(tmp_path, [Ended(0, "finished", "")])
        with hold(tmp_path) as ledger:
            assert (ledger.seconds_before, ledger.complete) == (7.0, False)
            ledger.begin({"a": 2})
            ledger.add(Ended(1, "finished", ""))
            ledger.add_complete()
        with hold(tmp_path) as ledger:
            assert (ledger.seconds_before, ledger.complete) == (10.0, True)
            assert ledger.settings == {"a": 2}
            ledger.add(Ended(2, "finished", ""))
            assert not ledger.complete
    finally:
        module.time.time = module_time


HOLDER = """
import sys, time
from pathlib import Path
from tuning.events.ledger import hold
with hold(Path(sys.argv[1])):
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
        with pytest.raises(InputError, match=f"is being searched by process {holder.pid} on"):
            read(Path(folder))
    finally:
        holder.kill()
        holder.wait(30)
    assert read(folder) == []


def test_proposals_and_ends_wait_for_the_disk_and_take_the_epochs_along(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        module.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size)
    )
    with hold(tmp_path) as ledger:
        ledger.begin({"a": 1})
        ledger.add(Proposed(0, {}, "qmc"))
        assert len(synced) == 2
        for epoch in range(1, 6):
            ledger.add(EpochDone(0, epoch, 0.5, 1, {}))
        assert len(synced) == 2
        ledger.add(Ended(0, "finished", ""))
    assert synced[-1] == (tmp_path / LEDGER_FILE).stat().st_size
    assert len(synced) == 3
