"""Samplers that were tried: suites samplers-gp, -prior and -start of ``compare_searches``."""

import copy
import functools
import math
from unittest import mock

import numpy as np
import torch
from optuna.samplers import GPSampler, TPESampler
from optuna.samplers._gp import sampler as gp_sampler
from replay import EXECUTIONS, TableProposer

from tuning.engine.samplers import SobolThenTPE


class PosteriorGP(GPSampler):
    """Improves on the best posterior mean; Optuna's improves on the highest observation."""

    def __init__(self, seed):
        super().__init__(seed=seed, deterministic_objective=False)

    def _optimize_acqf(self, acqf, best_params):
        regressor = self._gprs_cache_list[0]
        with torch.no_grad():
            mean, _ = regressor.posterior(regressor._X_train)
        acqf._threshold = float(mean.max())
        return super()._optimize_acqf(acqf, regressor._X_train[[int(mean.argmax())]].numpy())


class KnownNoiseGP(PosteriorGP):
    """Also knows each trial's variance, in the place of one fitted to all.

    Attributes:
        variance: Number of a trial → variance of its score.
    """

    def _sample_relative_impl(self, study, completed, running, space):
        fit = gp_sampler.gp.fit_kernel_params
        values = np.array([trial.values[0] for trial in completed])
        variances = np.array([self.variance(trial.number) for trial in completed])
        noise = torch.from_numpy(np.maximum(variances, 1e-6) / max(values.var(), 1e-9))

        def fitted(*args, gpr_cache=None, **options):
            if gpr_cache is not None:
                gpr_cache = copy.copy(gpr_cache)
                gpr_cache.noise_var = gpr_cache.noise_var.mean()
            regressor = fit(*args, gpr_cache=gpr_cache, **options)
            regressor.noise_var = noise
            regressor._cov_Y_Y_chol = regressor._cov_Y_Y_inv_Y = None
            regressor._cache_matrix()
            return regressor

        with mock.patch.object(gp_sampler.gp, "fit_kernel_params", fitted):
            return super()._sample_relative_impl(study, completed, running, space)


class PaperPrior(SobolThenTPE):
    """Draws half of its first points around the paper's configuration.

    Normally distributed in the scale of the range, with a fifth of its width.

    Attributes:
        paper: The paper's configuration.
    """

    def __init__(self, seed):
        super().__init__(seed)
        self._random = np.random.default_rng(seed)

    def sample_relative(self, study, trial, search_space):
        point = super().sample_relative(study, trial, search_space)
        ended = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
        if ended >= self._n_startup_trials or self._random.random() < 0.5:
            return point
        return {name: self._near(search_space[name], value, name) for name, value in point.items()}

    def _near(self, distribution, value, name):
        if not hasattr(distribution, "low"):
            return value
        scale, back = (math.log, math.exp) if distribution.log else (float, float)
        low, high, centre = map(scale, (distribution.low, distribution.high, self.paper[name]))
        while not low <= (near := self._random.normal(centre, (high - low) / 5)) <= high:
            pass
        return back(near)


class _Tried(TableProposer):
    def _new_study(self, seed):
        study = super()._new_study(seed)
        study.sampler = self.SAMPLER(seed=seed)
        study.sampler.variance = self._variance
        study.sampler.paper = self._paper.configuration
        return study

    @functools.cached_property
    def _of_draws(self):
        """Return what all configurations have in common in each draw."""
        return np.nanmean(self.curves.objectives, axis=(0, 2))

    def _variance(self, number):
        """Return the variance of a configuration's mean over the executions of a search."""
        row = self.curves.objectives[self.rows[number]]
        at_best = row[:, int(np.nan_to_num(row.mean(0)).argmax())] - self._of_draws
        return float(np.nan_to_num(at_best.var(ddof=1) / EXECUTIONS))


class PosteriorGPProposer(_Tried):
    SAMPLER = PosteriorGP


class KnownNoiseGPProposer(_Tried):
    SAMPLER = KnownNoiseGP


class PaperPriorProposer(_Tried):
    SAMPLER = PaperPrior


class RandomStartProposer(_Tried):
    """TPE as Optuna has it."""

    SAMPLER = functools.partial(TPESampler, multivariate=True)
