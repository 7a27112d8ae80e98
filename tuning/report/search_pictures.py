"""Pictures of a search: what was tried, in which order, and what came of it."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence

from tuning.analysis.comparison import standard_error
from tuning.analysis.insights import Band
from tuning.analysis.selection import Selection, objective_values
from tuning.report.charts import Chart, path_through, picture, short, text
from tuning.report.markup import Html, element
from tuning.report.scales import Linear, Scale, around
from tuning.report.subject import Searched, Subject, marks
from tuning.spec.records import RecordedTrial

_RANKS = 6
"""Shades of the lines of parallel coordinates."""


def history(subject: Subject) -> Html:
    """Draw the score of each trial, the best so far, and the paper's."""
    trials = subject.study.trials
    scored = [trial for trial in trials if math.isfinite(trial.score)]
    last = max((trial.number for trial in trials), default=0)
    chart = Chart(Linear(-0.5, last + 0.5), _score_scale(scored), "trial", subject.axis)
    parts = [element("path", d=chart.path(_best_so_far(scored, last)), class_="best")]
    if subject.paper and math.isfinite(subject.paper.score):
        parts.insert(0, chart.level(100 * subject.paper.score, "level"))
    for trial in trials:
        if math.isfinite(trial.score):
            parts.append(_dot(subject, trial, chart.place(trial.number, 100 * trial.score)))
        else:
            x, _ = chart.place(trial.number, 0)
            parts.append(_cross(trial, x, chart.height - chart.bottom - 5))
    return chart.drawn(f"Score of {len(scored)} trials by number, with the best so far", *parts)


def front(subject: Subject, selection: Selection) -> Html:
    """Draw H against T1 of the trials that the choice is among, and their Pareto front."""
    points = {
        trial.run_id: tuple(100 * v for v in objective_values(trial, fresh=selection.confirmed))
        for trial in selection.compared
    }
    trials = [t for t in selection.compared if all(map(math.isfinite, points[t.run_id]))]
    h, t1 = ([points[trial.run_id][i] for trial in trials] for i in (0, 1))
    chart = Chart(around(t1, floor=0.0), around(h, floor=0.0), "T1 (%)", "H (%)", height=360)

    def point(trial: RecordedTrial) -> tuple[float, float]:
        of_trial = points[trial.run_id]
        return of_trial[1], of_trial[0]

    line = chart.path([point(trial) for trial in selection.front])
    dots = [
        _dot(subject, trial, chart.place(*point(trial))) for trial in _special_last(subject, trials)
    ]
    label = f"H against T1 of {len(trials)} trials, with the Pareto front"
    return chart.drawn(label, element("path", d=line, class_="best"), *dots)


def curves(subject: Subject) -> Html:
    """Draw what is maximised by epoch, of all trials; where one was stopped early is a ring."""
    of_trials = subject.study.curves
    trials = [trial for trial in subject.study.trials if of_trials.get(trial.number)]
    values = [100 * h for trial in trials for h in of_trials[trial.number].values()]
    epochs = max((max(of_trials[trial.number]) for trial in trials), default=1)
    chart = Chart(
        Linear(1, max(epochs, 2)), around(values, floor=0.0), "epoch", subject.axis, height=360
    )
    parts, ends = [], []
    for trial in _special_last(subject, trials):
        points = [(epoch, 100 * h) for epoch, h in of_trials[trial.number].items()]
        look = marks(subject, trial)
        parts.append(element("path", d=chart.path(points), class_=f"line {look}", **_of(trial)))
        if trial.status == "stopped_early":
            x, y = chart.place(*points[-1])
            ends.append(
                element("circle", cx=short(x), cy=short(y), r=2.6, class_="end", **_of(trial))
            )
    return chart.drawn(f"Mean {subject.symbol} by epoch of {len(trials)} trials", *parts, *ends)


def parallel(subject: Subject) -> Html:
    """Draw each trial as a line through its values and its score."""
    trials = subject.with_values(subject.candidates)
    scores = _score_scale(trials)
    axes: list[tuple[str, Scale]] = [(s.name, s.scale) for s in subject.searched]
    axes.append((subject.axis, scores))
    width, top, height = max(760, 120 * len(axes)), 40.0, 300.0
    places = [70 + index * (width - 140) / max(len(axes) - 1, 1) for index in range(len(axes))]

    def level(share: float) -> float:
        return top + (1 - share) * height

    def line(trial: RecordedTrial) -> Html:
        shares = [s.scale.at(s.value(trial)) for s in subject.searched]
        shares.append(scores.at(100 * trial.score))
        through = [(x, level(share)) for x, share in zip(places, shares, strict=True)]
        look = f"line q{_rank(trial, trials)} {marks(subject, trial)}"
        return element("path", d=path_through(through), class_=look, **_of(trial))

    frame = []
    for x, (name, scale) in zip(places, axes, strict=True):
        frame.append(element("line", x1=x, x2=x, y1=top, y2=top + height, class_="axis"))
        frame.append(text(x, 20, name, anchor="middle", class_="name"))
        for share, words in scale.ticks(7):
            frame.append(
                element(
                    "line",
                    x1=x - 3,
                    x2=x,
                    y1=short(level(share)),
                    y2=short(level(share)),
                    class_="axis",
                )
            )
            frame.append(text(x - 6, level(share) + 4, words, anchor="end"))
    ranked = sorted(trials, key=lambda trial: trial.score)  # the best are drawn above the others
    lines = (line(trial) for trial in _special_last(subject, ranked))
    label = f"Searched values and score of {len(trials)} trials as lines"
    return picture(
        label,
        width,
        top + height + 16,
        element("g", *lines, class_="ranked"),
        element("g", *frame, class_="scale"),
    )


def slices(subject: Subject) -> list[Html]:
    """Draw the score against each searched hyperparameter."""
    return [_slice(subject, searched) for searched in subject.searched]


def by_band(subject: Subject, searched: Searched, bands: Sequence[Band]) -> Html:
    """Draw score against one hyperparameter: all trials, and mean and best of each part of it.

    The mean has a line over ± its standard error where a part has several trials.
    """
    trials = subject.with_values(subject.candidates)
    filled = [band for band in bands if band.scores]
    chart = Chart(
        searched.scale, _score_scale(trials), searched.name, subject.axis, width=560, height=300
    )
    parts = [
        element("path", d=chart.path([(b.middle, 100 * y(b.scores)) for b in filled]), class_=look)
        for y, look in ((max, "level"), (statistics.fmean, "best"))
    ]
    for band in filled:
        mean = statistics.fmean(band.scores)
        error = standard_error(band.scores) if len(band.scores) > 1 else 0.0
        (x, low), (_, high) = (chart.place(band.middle, 100 * (mean + e)) for e in (-error, error))
        parts.append(
            element(
                "line", x1=short(x), x2=short(x), y1=short(low), y2=short(high), class_="whisker"
            )
        )
    dots = [
        _dot(subject, trial, chart.place(searched.value(trial), 100 * trial.score), radius=2.4)
        for trial in _special_last(subject, trials)
    ]
    label = f"{subject.symbol} by {searched.name} of {len(trials)} trials, with means of its parts"
    return chart.drawn(label, *dots, *parts)


def importance(shares: Mapping[str, Sequence[float]]) -> Html:
    """Draw each hyperparameter's share as a bar, with the extent of its repetitions."""
    left, step, width = 150.0, 28.0, 760.0
    room = width - left - 60
    most = max(max(values) for values in shares.values()) or 1.0
    parts = []
    for index, (name, values) in enumerate(shares.items()):
        mean, middle = statistics.fmean(values), 18 + index * step
        low, high = (left + room * end / most for end in (min(values), max(values)))
        parts += [
            text(left - 8, middle + 4, name, anchor="end", class_="name"),
            element(
                "rect",
                x=left,
                y=middle - 8,
                width=short(room * mean / most),
                height=16,
                rx=2,
                class_="bar",
            ),
            element("line", x1=short(low), x2=short(high), y1=middle, y2=middle, class_="whisker"),
            text(max(high, left + room * mean / most) + 8, middle + 4, f"{100 * mean:.0f} %"),
        ]
    return picture("Importance of each hyperparameter", width, 12 + step * len(shares), *parts)


def _slice(subject: Subject, searched: Searched) -> Html:
    trials = subject.with_values(subject.candidates)
    chart = Chart(
        searched.scale,
        _score_scale(trials),
        searched.name,
        subject.axis,
        width=330,
        height=230,
        left=38,
    )
    dots = [
        _dot(subject, trial, chart.place(searched.value(trial), 100 * trial.score), radius=3.0)
        for trial in _special_last(subject, trials)
    ]
    return chart.drawn(f"Score against {searched.name}", *dots)


def _score_scale(trials: Sequence[RecordedTrial]) -> Linear:
    return around([100 * trial.score for trial in trials], floor=0.0)


def _best_so_far(scored: Sequence[RecordedTrial], last: int) -> list[tuple[float, float]]:
    """Return the corners of the steps that the best score rises by."""
    points: list[tuple[float, float]] = []
    for trial in (trial for trial in scored if trial.is_candidate):
        score = 100 * trial.score
        if not points or score > points[-1][1]:
            points += [(trial.number, points[-1][1])] if points else []
            points.append((trial.number, score))
    return [*points, (last + 0.5, points[-1][1])] if points else [(0.0, 0.0)]


def _special_last(subject: Subject, trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Return the trials so that the paper's and the selected one are drawn above the others."""
    selected = subject.selected
    return sorted(
        trials,
        key=lambda t: 2 if selected and t.run_id == selected.run_id else int(t.is_paper),
    )


def _rank(trial: RecordedTrial, trials: Sequence[RecordedTrial]) -> int:
    """Return which sixth of the scores a trial's is in, 0 for the lowest."""
    scores = sorted(other.score for other in trials)
    return bisect.bisect_left(scores, trial.score) * _RANKS // len(scores)


def _dot(
    subject: Subject, trial: RecordedTrial, place: tuple[float, float], radius: float = 3.6
) -> Html:
    x, y = place
    look = marks(subject, trial)
    size = radius + 1.6 if look.endswith(("selected", "paper")) else radius
    return element("circle", cx=short(x), cy=short(y), r=size, class_=f"dot {look}", **_of(trial))


def _cross(trial: RecordedTrial, x: float, y: float) -> Html:
    arms = f"M{short(x - 3)} {y - 3}l6 6m0-6l-6 6"
    return element("path", d=arms, class_="lost dot", **_of(trial))


def _of(trial: RecordedTrial) -> dict[str, object]:
    """Return the attribute that ties a mark to its trial."""
    return {"data_t": trial.number}
