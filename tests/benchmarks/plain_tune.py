"""MIANet's search as Ray Tune's documentation has one written: the baseline of ``time_to_target``.

    python tests/benchmarks/plain_tune.py --dataset AWA1 --data-dir DIR --epochs 10 --seconds 600

A function trainable, random search, no early stopping, Tune's own MLflow callback; the model as a
module with autograd and a ``DataLoader``, the five executions in turn. Splits, search space, metric
and initialisation are this project's, so that both search for the same thing. Each trial that ends
prints a line: seconds since the start of the process, seconds of the trial, its score.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import ray
import torch
from optuna.distributions import CategoricalDistribution
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.protocol import validation_tasks
from mianet.validation import execution_seed
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.space import search_space

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairwise import UsualExecution

EXECUTIONS = 5


def train(config, data, settings, epochs):
    """Train the executions of a configuration, then report the mean curve."""
    settings = settings.replace(**config)
    curves = []
    for execution in range(EXECUTIONS):
        (task,) = validation_tasks(
            data, executions=1, seed=0, device=torch.device("cpu"), first=execution
        )
        curves.append(train_execution(task, settings, epochs, execution_seed(0, execution)))
    goal, done, best = OBJECTIVES["ausuc"], [], 0.0
    for epoch, values in enumerate(zip(*curves, strict=True), 1):
        done.append(goal.with_value({goal.metric: statistics.fmean(values)}, done))
        best = max(best, done[-1][goal.value])
        tune.report({"epoch": epoch, "ausuc": done[-1][goal.metric], "score": best})


def train_execution(task, settings, epochs, seed):
    """Return AUSUC after each epoch; 0 from where the training left the finite numbers."""
    torch.manual_seed(seed)
    execution, curve = UsualExecution(task, settings, seed), []
    for _ in range(epochs):
        value = execution.epoch()
        if value is None:
            break
        curve.append(value)
    return curve + [0.0] * (epochs - len(curve))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.monotonic()
    os.environ["PYTHONPATH"] = sys.path[0]  # where workers find what is not installed
    ray.init("local", log_to_driver=False)
    data = load_search_data(arguments.dataset, arguments.data_dir)

    ended = set()

    def told(trial_id, result):
        if result["epoch"] == arguments.epochs and trial_id not in ended:
            ended.add(trial_id)  # Tune shows the last result twice
            times = {"at": time.monotonic() - begun, "seconds": result["time_total_s"]}
            print(json.dumps({**times, "score": result["score"]}), flush=True)
        return False

    space = {
        name: tune.choice(d.choices)
        if isinstance(d, CategoricalDistribution)
        else tune.loguniform(d.low, d.high)
        for name, d in search_space().items()
    }
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                train,
                data=data,
                settings=paper_hyperparameters(arguments.dataset),
                epochs=arguments.epochs,
            ),
            {"cpu": 1},
        ),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=arguments.trials,
            time_budget_s=arguments.seconds,
            search_alg=tune.search.BasicVariantGenerator(random_state=arguments.seed),
        ),
        run_config=tune.RunConfig(
            storage_path=os.path.abspath("plain_tune"),
            stop=told,
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri="sqlite:///plain_tune.db", experiment_name="plain"
                )
            ],
            verbose=0,
        ),
    )
    tuner.fit()


if __name__ == "__main__":
    main()
