"""How a started study is found again, and what must not have changed since."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mianet.addresses import without_credentials
from mianet.data.search_data import SearchData
from mianet.errors import InputError
from tuning.cli.search_options import RESUMABLE
from tuning.engine.study import Study
from tuning.events.event import Opened
from tuning.events.log import LOG_FILE, EventLog, count_waiting, open_log
from tuning.spec.provenance import code_digest
from tuning.spec.records import StudyDescription


def resume_command(storage: Path, study: str) -> str:
    command = ["python", "tuning/search.py", "--resume", study]
    is_default = storage == Path("ray_results").absolute()
    return shlex.join(command if is_default else [*command, "--storage", str(storage)])


def check_not_started(storage: Path, study: str) -> None:
    """Refuse the name of a study that is already in the storage; say how to resume that."""
    if (storage / study / LOG_FILE).exists():
        with new_log(storage, study):
            pass


@contextmanager
def new_log(storage: Path, study: str) -> Iterator[EventLog]:
    """Hold the log of a new study; delete it if an error precedes the first trial."""
    with open_log(storage / study) as log:
        if log.state.opening:
            raise InputError(
                f"study {study} was already started; to resume it: "
                f"{resume_command(storage, study)} (or give another --study)"
            )
        try:
            yield log
        except BaseException:
            if not log.found and not log.state.trials and not count_waiting(log.folder):
                log.discard()
            raise


@contextmanager
def existing_log(storage: Path, study: str) -> Iterator[EventLog]:
    """Hold the log of a study that was started; refuse one that is damaged or in use."""
    missing = InputError(
        f"--resume must name a study in the storage folder, but {study} is not in {storage}; give "
        "its folder as --storage, or start it with --dataset and --study"
    )
    if not (storage / study / LOG_FILE).exists():
        raise missing
    with open_log(storage / study) as log:
        if not log.state.opening:
            raise missing
        yield log


def resume_settings(
    options: argparse.Namespace, study: Study, data: SearchData, uri: str
) -> dict[str, Any]:
    """Return what a later process needs to resume: the options, and what must not change.

    Args:
        options: All options.
        study: The study that they define.
        data: What it is searched on; its digest is saved.
        uri: The tracking store, which is saved without its password.
    """
    kept = {
        **vars(options),
        "data_dir": options.data_dir and str(options.data_dir),
        "study": study.name,
        "warm_points": [dataclasses.asdict(point) for point in study.warm],
        "tracking_uri": without_credentials(uri),
    }
    per_process = ("storage", "resume")
    kept = {name: value for name, value in kept.items() if name not in per_process}
    return {"options": kept, "data_digest": data.digest, "code_digest": code_digest()}


def resumed_options(log: EventLog, storage: Path, given: Mapping[str, Any]) -> argparse.Namespace:
    """Return the options that a study was started with, overridden by those given now.

    Args:
        log: The study's log.
        storage: The folder that it is in.
        given: Name → value of the options on the command line.

    Raises:
        InputError: Fewer trials are asked for than the study was started with.
    """
    options = _opened(log).settings["options"]
    overrides = {name: value for name, value in given.items() if name in RESUMABLE}
    if overrides.get("trials", options["trials"]) < options["trials"]:
        raise InputError(
            f"--trials must be at least {options['trials']}, which the study was started with, but "
            f"got {overrides['trials']}"
        )
    paths = {"data_dir": options["data_dir"] and Path(options["data_dir"]), "storage": storage}
    return argparse.Namespace(**{**options, "resume": options["study"], **paths, **overrides})


def nothing_left(log: EventLog, options: argparse.Namespace) -> bool:
    """Say whether a study is complete and nothing more is asked of it."""
    before = _opened(log).settings["options"]
    return log.state.is_complete and all(
        getattr(options, name) == before[name] for name in ("trials", "time_budget")
    )


def check_unchanged(log: EventLog, data: SearchData, study: Study) -> None:
    """Check that the study's trials so far and those to come can be compared.

    Only warn if the code has changed: trials that ended keep their results.

    Args:
        log: The study's log.
        data: What it would continue on.
        study: What would be resumed.

    Raises:
        InputError: The data or the space have changed.
    """
    opened, code = _opened(log), code_digest()
    digest = opened.settings["data_digest"]
    if digest != data.digest:
        raise InputError(
            f"a study must be resumed with the data it was started with ({digest[:12]}…), but "
            f"{data.name} is now {data.digest[:12]}…; give the original --data-dir, or start "
            "another study"
        )
    before, space = log.state.study.space, study.space
    changed = [n for n in {**before, **space} if before.get(n) != space.get(n)]
    if changed:
        raise InputError(
            "a study must be resumed in the search space it was started with, but the code now has "
            f"another range for {', '.join(changed)}; go back to the original code, or start "
            "another study with --warm-start"
        )
    if opened.settings["code_digest"] != code:
        print(
            "warning: the code has changed since the study last ran "
            f"({opened.settings['code_digest']}, now {code}); trials that have ended keep their "
            "results, the others continue with the new code",
            file=sys.stderr,
        )


def _opened(log: EventLog) -> Opened:
    """Return how the study was last searched."""
    if not isinstance(log.state.opened.description, StudyDescription):
        raise InputError(
            f"--resume must name a study, but {log.folder} holds none; give another name"
        )
    return log.state.opened
