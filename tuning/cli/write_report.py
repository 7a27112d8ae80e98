"""The report of a study: read the study, write the page, and record it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mianet.data.datasets import find_dataset
from mianet.data.files import replacing
from mianet.data.search_data import recorded_name
from mianet.errors import InputError
from tuning.cli.options import tracking_uri, writable_folder
from tuning.report.data import picture_data
from tuning.report.page import document
from tuning.report.subject import Subject
from tuning.spec.errors import RecordingError
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.reading import read_study
from tuning.tracking.recording import recorded_files

REPORT_FILE = "report.html"


def write_report(options: argparse.Namespace) -> int:
    """Write the page of a study, and record it; return the exit code."""
    dataset = find_dataset(recorded_name(options.dataset, options.data_dir))
    uri = tracking_uri(options)
    deliver_waiting_for(options.storage, uri)
    study = read_study(uri, dataset.name, options.study)
    subject = Subject(study, dataset.title)
    page = document(subject)
    path = options.output or report_path(options.storage, study.name)
    _write(page, path)
    if not options.brief:
        print(f"report: {path}", flush=True)
    try:
        with recorded_files(uri, study.run_id, "report") as folder:
            for name, text in {REPORT_FILE: page, **picture_data(subject)}.items():
                (folder / name).write_text(text, encoding="utf-8", errors="replace")
    except RecordingError as error:
        raise RecordingError(
            f"the report is in {path}, but {error}; run the command again"
        ) from error
    return 0


def report_path(storage: Path, study: str) -> Path:
    """Return the default path of a study's page."""
    # Names given on the command line are safe as they are; recorded ones may not be.
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", study).lstrip(".-") or "study"
    return storage / folder / REPORT_FILE


def _write(page: str, path: Path) -> None:
    writable_folder(path.parent, "--output")
    try:
        with replacing(path) as new:
            new.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            f"the report must be a writable file, but {path} is not ({error}); give "
            "another --output"
        ) from error
