"""Write the report of a study as one page: ``python tuning/study_report.py --dataset apy``.

Everything on it is read back from MLflow, so this works on another day and on another machine, and
for a study that still runs. The page also becomes an artifact of the study's run, with its data.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import NoReturn

from mlflow.exceptions import MlflowException

from mianet.addresses import without_credentials
from mianet.data.datasets import find_dataset
from mianet.errors import InputError
from tuning.cli.command_line import (
    Parser,
    absolute_path,
    add_storage_option,
    add_study_options,
    run,
    tracking_uri,
    writable_folder,
)
from tuning.report.data import picture_data
from tuning.report.document import document
from tuning.report.subject import Subject
from tuning.tracking.recorded_studies import read_study
from tuning.tracking.recording import RecordingError, deliver_waiting_for
from tuning.tracking.store import open_store, reason_of

REPORT_FILE = "report.html"
ARTIFACT_FOLDER = "report"
"""Where the page and its data lie among the artifacts of the study's run."""


def main() -> NoReturn:
    """Run the command line and exit."""
    run(report)


def report() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    dataset = find_dataset(arguments.dataset)
    uri = tracking_uri(arguments)
    deliver_waiting_for(arguments.storage, uri)
    study = read_study(uri, dataset.name, arguments.study)
    subject = Subject(study, dataset.spec.title)
    page = document(subject)
    path = arguments.output or arguments.storage / _folder_name(study.name) / REPORT_FILE
    _write(page, path)
    print(f"report: {path}", flush=True)
    _record(uri, study.run_id, {REPORT_FILE: page, **picture_data(subject)})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="study_report.py", description=__doc__, allow_abbrev=False)
    add_study_options(parser)
    add_storage_option(parser)
    parser.add_argument(
        "--output",
        type=absolute_path,
        help=f"file to write (default: <storage>/<study>/{REPORT_FILE})",
    )
    return parser


def _folder_name(study: str) -> str:
    """Return the name as one that stays inside the storage; the command line's are such already."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", study).lstrip(".-") or "study"


def _write(page: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    folder = writable_folder(path.parent, "--output")
    new = folder / f".{path.name}.new"
    try:
        new.write_text(page, encoding="utf-8", errors="replace")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InputError(
            f"the report must be a file that can be written, but {path} is not ({error}); give "
            "another --output"
        ) from error


def _record(uri: str, run_id: str, texts: dict[str, str]) -> None:
    """Make the page and its data artifacts of the study's run.

    Raises:
        RecordingError: The store does not take them.
    """
    store = open_store(uri, must_exist=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8", errors="replace")
        try:
            store.client.log_artifacts(run_id, folder, ARTIFACT_FOLDER)
        except (MlflowException, OSError) as error:
            raise RecordingError(
                f"the report is written, but {without_credentials(store.uri)} must accept it as an "
                f"artifact and does not ({reason_of(error)}); mend it, and report again"
            ) from error


if __name__ == "__main__":
    main()
