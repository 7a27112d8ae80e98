"""A projector: each event reaches a receiver in order, whatever becomes of the two of them."""

import threading
import time

import pytest
from recorded import OPENED

from tuning.events import log as log_module
from tuning.events import projector
from tuning.events.event import EpochDone, Proposed
from tuning.events.log import LOG_FILE, open_log, read_cursor, write_cursor
from tuning.events.projector import Projection, Projector, UnreachableError


class Receiver(Projection):
    """Takes events, as slowly and as badly as it is told."""

    receiver = "receiver"

    def __init__(self, folder):
        self.folder = folder
        self.got, self.learned, self.waiting = [], [], []
        self.failures, self.seconds = [], 0
        self.open = threading.Event()
        self.open.set()
        self.broken = None

    @property
    def cursor(self):
        return read_cursor(self.folder)

    def mark(self, end):
        write_cursor(self.folder, end)

    def learn(self, event):
        self.learned.append(event)

    def handle(self, event):
        self.waiting.append(event)

    def take_unsaved(self, events):
        self.waiting += events

    def flush(self):
        self.open.wait(30)
        while self.waiting:
            if self.failures:
                raise self.failures.pop(0)
            time.sleep(self.seconds)
            self.got.append(self.waiting.pop(0))

    def abandon(self):
        self.waiting = []

    def end(self, error):
        self.broken = error

    @property
    def epochs(self):
        return [event.epoch for event in self.got if isinstance(event, EpochDone)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(projector, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(projector, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(projector, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(projector, "LONGEST_CLOSING_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(projector, "MAX_AT_ONCE", 7)
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.02)


@pytest.fixture
def log(tmp_path):
    with open_log(tmp_path) as log:
        log.begin(OPENED)
        log.append(Proposed(0, {}, "qmc"))
        yield log


def append(log, epochs, pause=0.0):
    for epoch in epochs:
        log.append(EpochDone(0, epoch, 0.5, 1, {}))
        time.sleep(pause)


def waited_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_events_arrive_in_order_although_some_fail_at_first(log, tmp_path, caplog):
    receiver = Receiver(tmp_path)
    receiver.failures = [UnreachableError("away")] * 7
    with Projector(log, receiver) as following:
        append(log, range(1, 101), 0.002)
    assert receiver.epochs == list(range(1, 101))
    assert (following.has_all, following.reason) == (True, "")
    assert read_cursor(tmp_path) == following.end == log.end
    assert caplog.text.count("does not accept records") == 1
    assert caplog.text.count("accepts records again") == 1


def test_a_blocked_receiver_blocks_nobody_and_is_given_up_at_the_deadline(log, tmp_path):
    receiver = Receiver(tmp_path)
    receiver.open.clear()
    following = Projector(log, receiver)
    following.start()
    started = time.monotonic()
    append(log, range(1, 2001))
    assert time.monotonic() - started < 5
    started = time.monotonic()
    following.close(0.3)
    assert time.monotonic() - started < 5
    assert not following.has_all
    assert following.end == 0
    receiver.open.set()


def test_a_slow_receiver_gets_all_of_it_at_the_end_unless_there_is_no_time(log, tmp_path, caplog):
    receiver = Receiver(tmp_path)
    receiver.seconds = 0.01
    following = Projector(log, receiver)
    following.start()
    append(log, range(1, 101))
    following.close(0.2)
    assert receiver.epochs == list(range(1, 101))
    assert "of what was recorded; the rest is being sent" in caplog.text

    hurried = Projector(log, receiver)
    hurried.start()
    append(log, range(101, 201))
    hurried.close(0.2, once=True)
    assert not hurried.has_all


def test_what_never_arrives_waits_for_the_next_process(log, tmp_path):
    receiver = Receiver(tmp_path)
    with Projector(log, receiver):
        append(log, range(1, 11))
    receiver = Receiver(tmp_path)
    receiver.failures = [UnreachableError("away")] * 10_000
    append(log, range(11, 31))
    following = Projector(log, receiver)
    following.start()
    following.close(0.2)
    assert (following.has_all, following.reason, receiver.got) == (False, "away", [])
    receiver = Receiver(tmp_path)
    with Projector(log, receiver):
        append(log, range(31, 33))
    # What was there is known from before the cursor; a part's cursor is that of its last event.
    assert receiver.epochs == list(range(11, 33))
    assert len(receiver.learned) == 12


def test_an_error_that_will_not_pass_ends_it_and_is_told(log, tmp_path):
    receiver = Receiver(tmp_path)
    receiver.failures = [KeyError("no such thing")]
    with Projector(log, receiver) as following:
        append(log, range(1, 3))
    assert isinstance(receiver.broken, KeyError)
    assert not following.has_all
    assert "no such thing" in following.reason


def test_memory_does_not_grow_with_what_waits(log, tmp_path):
    receiver = Receiver(tmp_path)
    receiver.failures = [UnreachableError("away")] * 1_000_000
    following = Projector(log, receiver)
    following.start()
    append(log, range(1, 301), 0.001)
    assert waited_for(lambda: len(receiver.waiting) > 0)
    assert len(receiver.waiting) <= 7
    assert waited_for(lambda: len(log._lines) == 0), "they are on the disk, and only there"
    receiver.failures = []
    following.close(30)
    assert receiver.epochs == list(range(1, 301))


class Full:
    """Writes nothing while it is full."""

    def __init__(self, log, monkeypatch):
        self.full, write = False, log._write

        def maybe():
            if self.full:
                log._note(OSError(28, "No space left on device"))
            else:
                write()

        monkeypatch.setattr(log, "_write", maybe)


def test_nothing_is_sent_that_is_not_kept_and_later_all_of_it(log, tmp_path, monkeypatch):
    disk, receiver = Full(log, monkeypatch), Receiver(tmp_path)
    with Projector(log, receiver):
        append(log, [1])
        assert waited_for(lambda: receiver.epochs == [1])
        disk.full = True
        append(log, range(2, 101))
        time.sleep(0.1)
        assert receiver.epochs == [1]
        disk.full = False
        assert waited_for(lambda: len(receiver.epochs) == 100)
        append(log, [101])
    assert receiver.epochs == list(range(1, 102))


def test_a_disk_that_stays_full_loses_nothing_that_can_be_sent(log, tmp_path, monkeypatch):
    disk, receiver = Full(log, monkeypatch), Receiver(tmp_path)
    with Projector(log, receiver) as following:
        append(log, [1])
        disk.full = True
        append(log, [2, 3])
        receiver.failures = [UnreachableError("away")] * 3
    assert following.has_all
    assert receiver.epochs == [1, 2, 3]
    assert read_cursor(tmp_path) == log.end, "what is not in the log is before no cursor"


def test_a_log_that_was_put_back_from_a_copy_is_sent_from_its_end_on(log, tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / LOG_FILE).write_bytes(log.path.read_bytes())
    write_cursor(tmp_path / "again", log.end + 10_000)
    with open_log(tmp_path / "again") as again:
        receiver = Receiver(again.folder)
        with Projector(again, receiver):
            append(again, range(1, 4))
        assert receiver.epochs == [1, 2, 3]


def test_many_threads_append_in_one_order(log, tmp_path):
    receiver = Receiver(tmp_path)
    with Projector(log, receiver):
        threads = [
            threading.Thread(
                target=lambda first=n: [
                    log.append(Proposed(1 + first * 50 + k, {}, "qmc")) for k in range(50)
                ]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert receiver.got == [event for event, _ in log.read()]
    assert sorted(e.number for e in receiver.got[1:]) == list(range(201))
