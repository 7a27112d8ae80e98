"""A denser table than was recorded: regression of the recorded curves, with their own noise.

A table of some hundred points is coarse for a sampler that proposes ever closer to its best: most
of what it asks for is answered by a neighbour. Here curves are foretold for any number of Sobol
points: by extremely randomised trees of the hyperparameters, all draws and epochs at once, plus
what the trees' out-of-sample prediction misses at one of the recorded neighbours (of the nearest
three, chosen by chance, but once and for all). So the draws differ as much, and by as much in
common, as they do in the recorded curves, and nothing is smoother than they are.

What is foretold is no measurement: only comparisons between ways of searching are drawn from it.
"""

import dataclasses

import numpy as np
from record_curves import sobol_configurations
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold

NEIGHBOURS = 3
FOLDS = 10


def densified(curves, configurations):
    """Return a table of that many configurations; the first is the recorded paper's.

    Configurations that diverged do so in the table where the nearest recorded one did.
    """
    about = dataclasses.replace(curves.about, seed=curves.about.seed + 1)
    values = np.array(sobol_configurations(about, configurations))
    dense = dataclasses.replace(curves, about=about, values=values)
    foretold, missed = _foretold(curves, dense.points)
    near = _nearest(curves.points, dense.points)
    chosen = near[
        np.arange(len(near)), np.random.default_rng(0).integers(NEIGHBOURS, size=len(near))
    ]
    h = np.clip(foretold + missed[chosen], 0, 1)
    lasting = curves.lasting[near[:, 0]]
    h[0], lasting[0] = curves.h[0], curves.lasting[0]
    h[np.arange(curves.epochs) >= lasting[..., None]] = np.nan
    return dataclasses.replace(
        dense, h=h, t1=np.full_like(h, np.nan), seconds=curves.seconds[near[:, 0]], lasting=lasting
    )


def skill(curves):
    """Return the rank correlation of foretold and recorded scores, configurations held out."""
    from scipy.stats import spearmanr

    flat = np.nan_to_num(curves.h).reshape(len(curves.h), -1)
    held_out = (flat - _missed(curves.points, flat)).reshape(curves.h.shape)
    scores = [np.nan_to_num(h).mean(1).max(1) for h in (held_out, curves.h)]
    return spearmanr(*scores).statistic


def _foretold(curves, points):
    flat = np.nan_to_num(curves.h).reshape(len(curves.h), -1)
    missed = _missed(curves.points, flat)
    foretold = _trees().fit(curves.points, flat).predict(points)
    shape = curves.h.shape[1:]
    return foretold.reshape(-1, *shape), missed.reshape(-1, *shape)


def _missed(points, flat):
    """Return what trees that have not seen a configuration miss of its curves."""
    missed = np.empty_like(flat)
    for known, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(points):
        model = _trees().fit(points[known], flat[known])
        missed[held_out] = flat[held_out] - model.predict(points[held_out])
    return missed


def _trees():
    return ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0)


def _nearest(points, asked):
    """Return the rows of the nearest few points, the nearest first."""
    found = [
        np.argsort(((points - each) ** 2).sum(1), kind="stable")[:NEIGHBOURS] for each in asked
    ]
    return np.array(found)
