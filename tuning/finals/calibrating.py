"""Choose the constant of calibrated stacking on the validation executions of a trial."""

from __future__ import annotations

import ray

from mianet.calibration import (
    Calibration,
    SeenUnseenCurve,
    at_constant,
    choose_constant,
    validation_curve,
)
from mianet.config import Hyperparameters
from mianet.data.search_data import SearchData
from mianet.errors import DivergedError, InputError
from mianet.processor import use_threads
from tuning.compute.cluster import Share
from tuning.compute.display import Display
from tuning.compute.waiting import Tasks
from tuning.spec.records import RecordedTrial


def calibrate(
    data: SearchData, trial: RecordedTrial, share: Share, display: Display
) -> Calibration:
    """Choose the constant on the validation executions that the trial was scored on; print it.

    Args:
        data: What the trial was searched on.
        trial: The trial.
        share: What each execution gets of the cluster.
        display: Where progress is shown.

    Returns:
        The constant that gives the highest mean H over the executions.

    Raises:
        InputError: An execution diverged.
    """
    shared = ray.put(data)
    tasks = Tasks("calibration", share, display)
    running = [tasks.start(_validate, shared, trial, k, share) for k in range(trial.executions)]
    curves = []
    for execution, reference in enumerate(running):
        curve = tasks.awaited(reference, f"calibration, {execution}").result
        if isinstance(curve, DivergedError):
            raise InputError(
                "the selected configuration must train again as it was recorded, but execution "
                f"{execution} diverged ({curve}); leave out --calibrate"
            )
        curves.append(curve)
    chosen, plain = choose_constant(curves), at_constant(curves, 0.0)
    display.say(
        f"calibration: {chosen.constant:.4f} off seen classes' scores, chosen on {len(curves)} "
        f"validation executions: H {100 * plain.harmonic_mean:.1f} without, "
        f"{100 * chosen.harmonic_mean:.1f} with, AUSUC {100 * chosen.area:.1f}"
    )
    return chosen


def _validate(
    data: SearchData, trial: RecordedTrial, execution: int, share: Share
) -> SeenUnseenCurve | DivergedError:
    use_threads(share.threads)
    try:
        return validation_curve(
            data,
            Hyperparameters.from_mapping(trial.hyperparameters),
            epochs=trial.best_epoch,
            execution=execution,
            seed=int(trial.protocol["seed"]),
            device=share.device,
        )
    except DivergedError as error:
        return error
