"""Pictures of a search: what was tried, in which order, and with what result."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence

from tuning.analysis.comparison import standard_error
from tuning.analysis.insights import Band
from tuning.analysis.selection import Selection, objective_values
from tuning.report.charts import Chart, Picture, Point, Scale, around
from tuning.report.subject import Searched, Subject
from tuning.spec.records import RecordedTrial

_RANKS = 6  # shades of the lines of parallel coordinates


def history(subject: Subject) -> Picture:
    """Draw the score of each trial, the best so far, and the paper's."""
    trials = subject.study.trials
    scored = [trial for trial in trials if math.isfinite(trial.score)]
    end = max((trial.number for trial in trials), default=0) + 0.5
    label = f"Score of {len(scored)} trials by number, with the best so far"
    chart = Chart(label, Scale(-0.5, end), _scores(scored), ("trial", subject.axis))
    if subject.paper and math.isfinite(subject.paper.score):
        _, level = chart.place(0, 100 * subject.paper.score)
        chart.path([(0, level), (chart.right, level)], "level")
    chart.curve(_best_so_far(scored, end), "best")
    for trial in scored:
        _dot(chart, subject, trial, trial.number, 100 * trial.score)
    for trial in trials:
        if not math.isfinite(trial.score):
            x, _ = chart.place(trial.number, 0)
            cross = f"M{x - 3:.1f} {chart.floor - 8:.1f}l6 6m0-6l-6 6"
            chart.draw("path", d=cross, class_="lost dot", data_t=trial.number)
    return chart


def front(subject: Subject, selection: Selection) -> Picture:
    """Draw H against T1 of the trials that the choice was made from, and their Pareto front."""

    def point(trial: RecordedTrial) -> Point:
        h, t1 = objective_values(trial, fresh=selection.confirmed)
        return 100 * t1, 100 * h

    trials = [trial for trial in selection.compared if all(map(math.isfinite, point(trial)))]
    label = f"H against T1 of {len(trials)} trials, with the Pareto front"
    x, y = (around([point(trial)[axis] for trial in trials]) for axis in (0, 1))
    chart = Chart(label, x, y, ("T1 (%)", "H (%)"), height=360)
    chart.curve(map(point, selection.front), "best")
    for trial in _special_last(subject, trials):
        _dot(chart, subject, trial, *point(trial))
    return chart


def curves(subject: Subject) -> Picture:
    """Draw the objective by epoch for all trials; a ring marks where one was stopped early."""
    by_number = subject.study.curves
    trials = [trial for trial in subject.study.trials if by_number.get(trial.number)]
    values = [100 * value for trial in trials for value in by_number[trial.number].values()]
    epochs = max((max(by_number[trial.number]) for trial in trials), default=1)
    label = f"Mean {subject.symbol} by epoch of {len(trials)} trials"
    axes = Scale(1, max(epochs, 2)), around(values)
    chart = Chart(label, *axes, ("epoch", subject.axis), height=360)
    for trial in _special_last(subject, trials):
        points = [(epoch, 100 * value) for epoch, value in by_number[trial.number].items()]
        chart.curve(points, f"line {subject.look(trial)}", data_t=trial.number)
    for trial in trials:
        if trial.status == "stopped_early":
            epoch, value = [*by_number[trial.number].items()][-1]
            chart.dot(epoch, 100 * value, 2.6, "end", data_t=trial.number)
    return chart


def parallel(subject: Subject) -> Picture:
    """Draw each trial as a line through its values and its score."""
    trials = sorted(subject.complete, key=lambda trial: trial.score)  # the best are drawn last
    ranked = [trial.score for trial in trials]
    axes = {searched.name: searched.scale for searched in subject.searched}
    axes[subject.axis] = _scores(trials)
    width, height = max(760, 120 * len(axes)), 300.0
    step = (width - 140) / max(len(axes) - 1, 1)
    label = f"Searched values and score of {len(trials)} trials as lines"
    picture = Picture(label, width, height + 56, left=70, top=40)
    for trial in _special_last(subject, trials):
        values = [*(s.value(trial) for s in subject.searched), 100 * trial.score]
        places = [
            (index * step, (1 - scale.at(value)) * height)
            for index, (scale, value) in enumerate(zip(axes.values(), values, strict=True))
        ]
        rank = bisect.bisect_left(ranked, trial.score) * _RANKS // len(trials)
        look = f"line ranked q{rank} {subject.look(trial)}"
        picture.path(places, look, data_t=trial.number)
    for index, (name, scale) in enumerate(axes.items()):
        x = index * step
        picture.path([(x, 0), (x, height)], "axis")
        picture.draw("text", name, x=x, y=-20, text_anchor="middle", class_="name haloed")
        for share, words in scale.ticks(7):
            y = (1 - share) * height
            picture.path([(x - 3, y), (x, y)], "axis")
            picture.draw("text", words, x=x - 6, y=y + 4, text_anchor="end", class_="haloed")
    return picture


def by_value(subject: Subject, searched: Searched, size: tuple[float, float] = (330, 230)) -> Chart:
    """Draw the score of each trial against its value of a hyperparameter.

    Args:
        subject: The study.
        searched: The hyperparameter.
        size: Width and height of the picture.
    """
    trials, label = subject.complete, f"Score against {searched.name}"
    titles = (searched.name, subject.axis)
    chart = Chart(label, searched.scale, _scores(trials), titles, *size)
    for trial in _special_last(subject, trials):
        _dot(chart, subject, trial, searched.value(trial), 100 * trial.score)
    return chart


def by_band(subject: Subject, searched: Searched, bands: Sequence[Band]) -> Picture:
    """Draw score against a hyperparameter: all trials, and mean ± its error and best of each part.

    Args:
        subject: The study.
        searched: The hyperparameter.
        bands: The parts of its range.
    """
    chart = by_value(subject, searched, (560, 300))
    count = len(subject.complete)
    chart.label = f"{subject.symbol} by {searched.name} of {count} trials, with means of its parts"
    filled = [band for band in bands if band.scores]
    chart.curve([(band.middle, 100 * max(band.scores)) for band in filled], "level")
    chart.curve([(band.middle, 100 * statistics.fmean(band.scores)) for band in filled], "best")
    for band in filled:
        mean = statistics.fmean(band.scores)
        error = standard_error(band.scores) if len(band.scores) > 1 else 0.0
        chart.curve([(band.middle, 100 * (mean + e)) for e in (-error, error)], "whisker")
    return chart


def importance(subject: Subject) -> Picture:
    """Draw each hyperparameter's share as a bar, with the range over its repetitions."""
    shares = subject.importances
    step, width, room = 28.0, 760.0, 550.0
    most = max(map(max, shares.values())) or 1.0
    label = "Importance of each hyperparameter"
    picture = Picture(label, width, 12 + step * len(shares), left=150)
    for index, (name, values) in enumerate(shares.items()):
        mean, y = statistics.fmean(values), 18 + index * step
        low, bar, high = (room * end / most for end in (min(values), mean, max(values)))
        picture.draw("text", name, x=-8, y=y + 4, text_anchor="end", class_="name")
        picture.draw("rect", x=0, y=y - 8, width=bar, height=16, rx=2, class_="bar")
        picture.path([(low, y), (high, y)], "whisker")
        picture.draw("text", f"{100 * mean:.0f} %", x=max(high, bar) + 8, y=y + 4)
    return picture


def _scores(trials: Sequence[RecordedTrial]) -> Scale:
    return around([100 * trial.score for trial in trials])


def _best_so_far(scored: Sequence[RecordedTrial], end: float) -> list[Point]:
    """Return the corners of the steps in which the best score rises."""
    points: list[Point] = []
    for trial in (trial for trial in scored if trial.is_candidate):
        score = 100 * trial.score
        if not points or score > points[-1][1]:
            points += [(trial.number, points[-1][1])] if points else []
            points.append((trial.number, score))
    return [*points, (end, points[-1][1])] if points else [(0.0, 0.0)]


def _special_last(subject: Subject, trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Sort the trials so that the paper's and the selected one are drawn above the others."""
    return sorted(trials, key=lambda trial: (subject.is_selected(trial), trial.is_paper))


def _dot(chart: Chart, subject: Subject, trial: RecordedTrial, x: float | str, y: float) -> None:
    """Add a trial's dot, larger for the paper's and the selected one."""
    radius = 5.0 if trial.is_paper or subject.is_selected(trial) else 3.2
    chart.dot(x, y, radius, f"dot {subject.look(trial)}", data_t=trial.number)
