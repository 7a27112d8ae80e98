"""Figures 9 and 10: how similar classes are, in the attribute and in the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from mianet.inference.prediction import Classifier
from mianet.model import on_hypersphere
from tuning.analysis.comparison import paired_difference
from tuning.paper.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, panels, readable
from tuning.paper.evidence import Evidence, NothingToShowError
from tuning.paper.findings import AGREES, CONTRADICTS, VERDICTS, Claim, Findings
from tuning.paper.published import published_figures

SPACES = ("attribute", "latent")

NAMED_PAIRS = 10
"""Most similar pairs that figure 9 names beside the paper's."""
PAPER_SIMILARITY = 0.78
"""Cosine in the attribute space that the paper's three pairs of figure 9 exceed."""
DRAWN_PAIRS = 5
"""Disjoint pairs of similar classes that figure 10 draws."""
IMAGES_PER_CLASS = 60
MAX_LABELLED_CLASSES = 60
PAIR_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY)

CONSTRAINED: Mapping[str, str] = {
    "full": "with the orthogonal constraint",
    "no_orthogonal": "without it",
}
"""Figure 10: arm → panel title."""


def find_similarities(evidence: Evidence) -> Findings:
    """Return the cosine of every two classes in the attribute and in the latent space (fig. 9)."""
    data = _cosines_of_pairs(evidence)
    named = set(map(frozenset, published_figures().similar_pairs["figure9"]))
    both = zip(data["class_a"], data["class_b"], strict=True)
    data.insert(0, "in_paper", [frozenset(pair) in named for pair in both])
    pairs = data[data["in_paper"] | (data.index < NAMED_PAIRS)]
    top = data.head(NAMED_PAIRS)
    means = {s: float(data[f"{s}_cosine"].abs().mean()) for s in SPACES}
    similar = {s: float(top[f"{s}_cosine"].mean()) for s in SPACES}
    return Findings(
        data=data,
        more={"most_similar": pairs},
        metrics={
            **{f"mean_{space}_cosine": value for space, value in means.items()},
            **{f"most_similar_{space}_cosine": value for space, value in similar.items()},
        },
        claims=(*_named(pairs), _less_similar(means, similar)),
        sentences=("The model is that of the first seed.",),
    )


def _cosines_of_pairs(evidence: Evidence) -> pd.DataFrame:
    """Return the cosines of every two classes, the most similar attributes first."""
    names, unseen = evidence.test.class_names, set(evidence.test.unseen_classes.tolist())
    attribute = _cosines(evidence.test.class_attributes)
    latent = _cosines(_prototypes(evidence.model("full")))
    first, second = np.triu_indices(len(names), 1)
    return pd.DataFrame(
        {
            "class_a": [names[c] for c in first],
            "class_b": [names[c] for c in second],
            "a_unseen": [c in unseen for c in first.tolist()],
            "b_unseen": [c in unseen for c in second.tolist()],
            "attribute_cosine": attribute[first, second],
            "latent_cosine": latent[first, second],
        }
    ).sort_values("attribute_cosine", ascending=False, ignore_index=True)


def _named(pairs: pd.DataFrame) -> list[Claim]:
    """Compare the pairs that the paper names with what is found of them."""
    return [
        Claim(
            f"{_pair(one)} are similar, with a cosine above {PAPER_SIMILARITY} in attributes, and "
            "less so in the latent space",
            f"{one.attribute_cosine:.2f} in attributes, {one.latent_cosine:.2f} in the latent "
            "space",
            AGREES
            if one.attribute_cosine > max(PAPER_SIMILARITY, one.latent_cosine)
            else CONTRADICTS,
        )
        for one in pairs[pairs["in_paper"]].itertuples()
    ]


def _less_similar(means: Mapping[str, float], similar: Mapping[str, float]) -> Claim:
    found = [
        f"{label} {values['attribute']:.2f} in attributes and {values['latent']:.2f} in the "
        "latent space"
        for label, values in (
            ("mean absolute cosine", means),
            (f"the {NAMED_PAIRS} most similar pairs", similar),
        )
    ]
    less = means["latent"] < means["attribute"] and similar["latent"] < similar["attribute"]
    return Claim(
        "classes are less similar in the latent space than in attributes",
        ", ".join(found),
        AGREES if less else CONTRADICTS,
    )


def _pair(one: Any) -> str:
    return f"{readable(one.class_a)} and {readable(one.class_b)}"


def draw_similarities(evidence: Evidence, findings: Findings) -> Figure:
    """Draw both matrices, the seen classes first, and the most similar pairs by name."""
    test = evidence.test
    order = np.concatenate([test.seen_classes, test.unseen_classes])
    size = max(3.8, 0.115 * len(order) + 0.8) if len(order) <= MAX_LABELLED_CLASSES else 4.6
    figure, axes = panels(1, 3, width=size, height=size)
    names = [readable(test.class_names[c]) for c in order]
    for panel, title, rows in (
        (axes[0][0], "attribute space", test.class_attributes),
        (axes[0][1], "latent space", _prototypes(evidence.model("full"))),
    ):
        _matrix(panel, _cosines(rows[order]), names, len(test.seen_classes))
        panel.set_title(f"{title}, seen | unseen classes")
        figure.colorbar(panel.images[0], ax=panel, shrink=0.7, label="cosine")
    _pairs_panel(axes[0][2], findings.more["most_similar"])
    return figure


def _matrix(axes: Axes, matrix: np.ndarray, names: list[str], seen: int) -> None:
    axes.imshow(matrix, vmin=-1 if matrix.min() < -0.05 else 0, vmax=1, cmap="cividis")
    axes.axhline(seen - 0.5, color="white", lw=0.8)
    axes.axvline(seen - 0.5, color="white", lw=0.8)
    axes.spines[:].set_visible(False)
    shown = names if len(names) <= MAX_LABELLED_CLASSES else []
    axes.set_xticks(range(len(shown)), shown, rotation=90, fontsize=6)
    axes.set_yticks(range(len(shown)), shown, fontsize=6)


def _pairs_panel(axes: Axes, pairs: pd.DataFrame) -> None:
    places = np.arange(len(pairs))[::-1]
    axes.hlines(places, pairs["latent_cosine"], pairs["attribute_cosine"], color="#BBBBBB")
    axes.scatter(pairs["attribute_cosine"], places, color=ORANGE, marker="s", label="attributes")
    axes.scatter(pairs["latent_cosine"], places, color=BLUE, label="latent space", zorder=3)
    labels = [f"{_pair(one)}{' *' * one.in_paper}" for one in pairs.itertuples()]
    axes.set_yticks(places, labels)
    axes.set_xlim(min(0.0, float(pairs["latent_cosine"].min()) - 0.05), 1.02)
    axes.set_xlabel("cosine" + "   (*: named in the paper)" * bool(pairs["in_paper"].any()))
    axes.set_title("similar pairs")
    axes.grid(True, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2)


@dataclass(frozen=True)
class _Images:
    """Test images of similar pairs of classes: features, class of each, and the pairs."""

    features: np.ndarray
    labels: np.ndarray
    pairs: tuple[tuple[int, int], ...]


def find_map(evidence: Evidence) -> Findings:
    """Return a t-SNE map of similar pairs' images, with and without ``L_ors`` (figure 10)."""
    images = _images_of_similar_pairs(evidence)
    models = {arm: evidence.model(arm) for arm in CONSTRAINED}
    frames, separations = [], []
    for arm, model in models.items():
        latents = _visual_latents(model, images.features)
        frames.append(_map(arm, latents, images, evidence.test.class_names))
        separations += _separations(arm, latents, images, evidence.test.class_names)
    separation = pd.DataFrame(separations)
    means = separation.groupby("arm")["silhouette"].mean()
    with_constraint, without = (
        dict(enumerate(separation.loc[separation["arm"] == arm, "silhouette"]))
        for arm in CONSTRAINED
    )
    difference = paired_difference(with_constraint, without)
    return Findings(
        data=pd.concat(frames, ignore_index=True),
        more={"separation": separation},
        metrics={f"silhouette_{arm}": float(means[arm]) for arm in CONSTRAINED},
        claims=(
            Claim(
                "the orthogonal constraint separates similar classes",
                f"mean silhouette of the pairs {means['full']:.2f} {CONSTRAINED['full']}, "
                f"{means['no_orthogonal']:.2f} {CONSTRAINED['no_orthogonal']}",
                VERDICTS[difference.sign],
            ),
        ),
        sentences=(
            "The silhouette (1: separate, 0: mixed) is computed in the latent space, not in the "
            "map, and compared pair by pair.",
            "The models are those of the first seed; a map of one training shows no spread.",
        ),
    )


def draw_map(evidence: Evidence, findings: Findings) -> Figure:
    """Draw both maps: a colour a pair, a marker for each of its classes."""
    figure, axes = panels(1, 2, width=4.4, height=4.2)
    separation = findings.more["separation"]
    for panel, (arm, title) in zip(axes[0], CONSTRAINED.items(), strict=True):
        rows = findings.data[findings.data["arm"] == arm]
        for (pair, member, name), points in rows.groupby(["pair", "member", "class"]):
            panel.scatter(
                points["x"],
                points["y"],
                s=14,
                color=PAIR_COLORS[pair % len(PAIR_COLORS)],
                marker="o" if member == 0 else "^",
                facecolors="none" if member else None,
                linewidths=0.8,
                label=readable(name),
            )
        mean = separation.loc[separation["arm"] == arm, "silhouette"].mean()
        panel.set_title(f"{title} (silhouette {mean:.2f})")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_xlabel("t-SNE 1 (no unit)")
        panel.spines[:].set_visible(True)
    axes[0][0].set_ylabel("t-SNE 2 (no unit)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) // 2)
    return figure


def paper_pairs(figure: str, class_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs that a figure of the paper names, as far as a data set has the classes."""
    ids = {name: c for c, name in enumerate(class_names)}
    pairs = published_figures().similar_pairs[figure]
    return tuple((ids[a], ids[b]) for a, b in pairs if {a, b} <= ids.keys())


def similar_pairs(
    attributes: np.ndarray, count: int, first: Sequence[tuple[int, int]] = ()
) -> tuple[tuple[int, int], ...]:
    """Return disjoint pairs of classes, the most similar attribute vectors first.

    Args:
        attributes: A row for each class.
        count: How many pairs to return, if there are as many.
        first: Pairs to begin with.
    """
    a, b = np.triu_indices(len(attributes), 1)
    order = np.argsort(-_cosines(attributes)[a, b], kind="stable")
    pairs: list[tuple[int, int]] = []
    for one, other in (*first, *zip(a[order].tolist(), b[order].tolist(), strict=True)):
        if len(pairs) < count and not {one, other} & {c for pair in pairs for c in pair}:
            pairs.append((one, other))
    return tuple(pairs)


def _images_of_similar_pairs(evidence: Evidence) -> _Images:
    test = evidence.test
    named = paper_pairs("figure10", test.class_names)
    pairs = similar_pairs(test.class_attributes, DRAWN_PAIRS, named)
    features, labels = [], []
    for label in (c for pair in pairs for c in pair):
        for part, of_part in (
            (test.test_seen_features, test.test_seen_labels),
            (test.test_unseen_features, test.test_unseen_labels),
        ):
            rows = np.flatnonzero(of_part == label)[:IMAGES_PER_CLASS]
            features.append(part[rows])
            labels.append(np.full(len(rows), label))
    return _Images(np.concatenate(features), np.concatenate(labels), pairs)


def _map(arm: str, latents: np.ndarray, images: _Images, names: tuple[str, ...]) -> pd.DataFrame:
    perplexity = min(30.0, (len(latents) - 1) / 3)
    if np.ptp(latents, axis=0).max() == 0:
        raise NothingToShowError(f"all latents of {arm} are equal")
    with threadpool_limits(1):  # its threads wait for each other where other work has the cores
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(latents)
    place = {c: (k, member) for k, pair in enumerate(images.pairs) for member, c in enumerate(pair)}
    return pd.DataFrame(
        {
            "arm": arm,
            "x": points[:, 0],
            "y": points[:, 1],
            "class": [names[c] for c in images.labels],
            "pair": [place[c][0] for c in images.labels.tolist()],
            "member": [place[c][1] for c in images.labels.tolist()],
        }
    )


def _separations(
    arm: str, latents: np.ndarray, images: _Images, names: tuple[str, ...]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for first, second in images.pairs:
        of_pair = np.isin(images.labels, (first, second))
        value = silhouette_score(latents[of_pair], images.labels[of_pair], metric="cosine")
        rows.append(
            {
                "arm": arm,
                "class_a": names[first],
                "class_b": names[second],
                "silhouette": float(value),
            }
        )
    return rows


def _cosines(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, 1e-8)
    return np.asarray(unit @ unit.T)


@torch.no_grad()
def _prototypes(classifier: Classifier) -> np.ndarray:
    return classifier.model.embed_attributes(classifier.class_attributes).numpy()


@torch.no_grad()
def _visual_latents(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    scaled = classifier.scaler(torch.tensor(features))
    return on_hypersphere(classifier.model.embed_features(scaled)).numpy()
