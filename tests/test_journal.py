"""The journal on disk and the outbox before a delivery, with torn files and full disks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mianet.errors import InputError
from tuning.events.journal import RECORDS_FILE, Journal, JournalBusyError, undelivered_in
from tuning.tracking import outbox
from tuning.tracking.delivery import Delivery
from tuning.tracking.outbox import Outbox
from tuning.tracking.run_messages import (
    EndRun,
    LogDataset,
    LogText,
    LogValues,
    Point,
    ResumeRun,
    StartRun,
    decoded,
    encoded,
)

TEXT = st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.integers(0, 2**41)
POINTS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 1)),
    st.dictionaries(TEXT, NUMBERS, min_size=1, max_size=3),
    max_size=3,
).map(
    lambda groups: tuple(
        Point(name, value, step, time_ms)
        for (step, time_ms), values in groups.items()
        for name, value in values.items()
    )
)
TAGS = st.dictionaries(TEXT, TEXT, max_size=3)
MESSAGES = st.one_of(
    st.builds(StartRun, TEXT, TEXT, TIMES, TAGS, TEXT),
    st.builds(ResumeRun, TEXT, TIMES),
    st.builds(
        LogValues,
        TEXT,
        POINTS,
        st.dictionaries(TEXT, st.one_of(TEXT, NUMBERS, st.booleans(), st.integers())),
        TAGS,
    ),
    st.builds(LogDataset, TEXT, TEXT, TEXT, TEXT, st.dictionaries(TEXT, st.integers(0, 9)), TEXT),
    st.builds(LogText, TEXT, TEXT, st.text(max_size=50)),
    st.builds(EndRun, TEXT, st.sampled_from(["FINISHED", "FAILED", "KILLED"]), TIMES),
)


def reopened(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.close()
    return journal


@given(MESSAGES)
def test_a_message_is_read_back_as_it_was(message):
    assert decoded(json.loads(json.dumps(encoded(message)))) == message


@pytest.mark.parametrize(
    "fields",
    [{}, {"kind": "Nonsense"}, {"kind": "EndRun"}, {"kind": "LogValues", "run": "a", "points": 3}],
)
def test_what_is_no_message_is_said_to_be_none(fields):
    with pytest.raises(InputError, match="messages that this version knows, but got"):
        decoded(fields)


def test_a_journal_that_is_cut_anywhere_keeps_the_whole_lines(tmp_path):
    whole = Journal(tmp_path / "whole")
    whole.write({"n": n, "text": "ä\n" * n} for n in range(4))
    whole.close()
    data = (tmp_path / "whole" / RECORDS_FILE).read_bytes()
    ends = [n for n, byte in enumerate(data, start=1) if byte == ord("\n")]
    folder = tmp_path / "cut"
    folder.mkdir()
    for cut in range(len(data) + 1):
        (folder / RECORDS_FILE).write_bytes(data[:cut])
        journal = Journal(folder)
        assert [r["n"] for r in journal.records] == list(range(sum(end <= cut for end in ends)))
        journal.write([{"n": "next"}])
        journal.close()
        assert reopened(folder).records == [*journal.records, {"n": "next"}]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / RECORDS_FILE).write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(InputError, match="line 2 of 3 is not"):
        Journal(tmp_path)


def test_one_process_at_a_time_has_a_journal(tmp_path):
    journal = Journal(tmp_path)
    with pytest.raises(JournalBusyError, match="only one process at a time can record to"):
        Journal(tmp_path)
    journal.close()
    reopened(tmp_path)


def test_a_killed_process_leaves_what_it_wrote_and_the_lock_open(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tuning.events.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.write([{'n': 1}, {'n': 2}]); journal.mark_delivered(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=120, check=False)
    assert undelivered_in(tmp_path) == 1
    journal = reopened(tmp_path)
    assert (journal.records, journal.delivered) == ([{"n": 1}, {"n": 2}], 1)


def test_a_new_journal_is_deleted_when_it_is_given_up_and_another_one_kept(tmp_path):
    journal = Journal(tmp_path / "new")
    journal.begin({"name": "a"}, {"n": 1})
    journal.give_up()
    assert not (tmp_path / "new").exists()
    journal = Journal(tmp_path / "old")
    journal.begin({"name": "a"}, {"n": 1})
    journal.close()
    journal = Journal(tmp_path / "old")
    journal.give_up()
    assert reopened(tmp_path / "old").about == {"name": "a"}


def test_a_folder_that_cannot_be_written_is_an_error_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"but .*file/record is not \(Not a directory\)"):
        Journal(tmp_path / "file" / "record")


# Full disks: a file-size limit fails writes for real, in a process of its own


FULL = """
import json, resource, signal, sys
from pathlib import Path
from tuning.events.journal import Journal

journal = Journal(Path(sys.argv[1]))
journal.write([{"n": 0}])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    journal.write([{"n": n} for n in range(1, 50)])
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((journal.folder / "journal.jsonl").read_text() == json.dumps({"n": 0}) + "\\n")
journal.write([{"n": "later"}])
journal.close()
print(Journal(journal.folder).records)
"""


def test_a_write_without_room_leaves_nothing_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "File too large",
        "True",
        "[{'n': 0}, {'n': 'later'}]",
    ]


# The outbox


class Full(Journal):
    """A journal whose disk can be full."""

    full = False

    def write(self, records):
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(records)


class Sent:
    """Takes messages while it is open."""

    def __init__(self) -> None:
        self.got: list[EndRun] = []
        self.open = True

    def __call__(self, message: EndRun) -> None:
        if not self.open:
            raise OSError("away")
        self.got.append(message)

    @property
    def numbers(self) -> list[int]:
        return [message.time_ms for message in self.got]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    monkeypatch.setattr(outbox, "SYNC_SECONDS", 0.02)
    monkeypatch.setattr("tuning.tracking.delivery.INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("tuning.tracking.delivery.FIRST_PAUSE_SECONDS", 0.01)
    return Sent()


def opened(journal: Journal, sent: Sent) -> Outbox:
    def deliver(before, delivered):
        def send(message):
            before()
            sent(message)

        return Delivery(
            send,
            compact=list,
            passing=lambda error: isinstance(error, OSError),
            delivered=delivered,
        )

    waiting = [decoded(record) for record in journal.records[journal.delivered :]]
    return Outbox(journal, deliver, waiting)


def message(number: int) -> EndRun:
    return EndRun("run", "FINISHED", number)


def waited_for(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_what_one_process_could_not_deliver_the_next_one_does_in_order(tmp_path, sent):
    first = opened(Journal(tmp_path), sent)
    first.put(message(0))
    assert waited_for(lambda: undelivered_in(tmp_path) == 0)
    sent.open = False
    first.put(message(1), message(2))
    outcome = first.close(0.1)
    assert [m.time_ms for m in outcome.undelivered] == [1, 2]
    assert undelivered_in(tmp_path) == 2
    sent.open = True
    second = opened(Journal(tmp_path), sent)
    second.put(message(3))
    assert not second.close(30).undelivered
    assert sent.numbers == [0, 1, 2, 3]
    assert undelivered_in(tmp_path) == 0


def test_without_room_nothing_is_sent_that_is_not_kept_and_later_all_of_it(tmp_path, sent, caplog):
    journal = Full(tmp_path)
    out = opened(journal, sent)
    out.put(message(0))
    assert waited_for(lambda: sent.numbers == [0])
    journal.full = True
    started = time.monotonic()
    for number in range(1, 1001):
        out.put(message(number))
    assert time.monotonic() - started < 2, "a full disk holds nobody up"
    time.sleep(0.2)
    assert sent.numbers == [0]
    assert caplog.text.count("No space left on device") == 1, "said once"
    journal.full = False
    assert waited_for(lambda: len(sent.numbers) == 1001)
    out.put(message(1001))
    assert not out.close(30).undelivered
    assert sent.numbers == list(range(1002)) == [r["time_ms"] for r in reopened(tmp_path).records]
    assert "can be written again" in caplog.text


def test_a_disk_that_stays_full_loses_nothing_that_can_be_sent(tmp_path, sent):
    journal = Full(tmp_path)
    out = opened(journal, sent)
    out.put(message(0))
    journal.full = True
    out.put(message(1))
    assert not out.close(30).undelivered
    assert sent.numbers == [0, 1]
    assert [r["time_ms"] for r in reopened(tmp_path).records] == [0]
    assert undelivered_in(tmp_path) == 0


def test_many_threads_put_in_one_order(tmp_path, sent):
    out = opened(Journal(tmp_path), sent)
    threads = [
        threading.Thread(target=lambda: [out.put(message(n)) for n in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not out.close(30).undelivered
    assert sent.numbers == [record["time_ms"] for record in reopened(tmp_path).records]
    assert sorted(sent.numbers) == sorted([*range(200)] * 4)
