"""Figures 9 and 10: how similar classes are, in the attribute and in the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_similarity
from threadpoolctl import threadpool_limits

from mianet.inference.prediction import Classifier
from mianet.model import on_hypersphere
from tuning.analysis.comparison import paired_difference
from tuning.paper.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, legend_below, panels, readable
from tuning.paper.evidence import Evidence, NothingToShowError
from tuning.paper.findings import AGREES, CONTRADICTS, VERDICTS, Claim, Findings
from tuning.paper.published import published

NAMED_PAIRS = 10  # most similar pairs that figure 9 names beside the paper's
PAPER_SIMILARITY = 0.78
"""Cosine in the attribute space that the paper's three pairs of figure 9 exceed."""
DRAWN_PAIRS = 5  # disjoint pairs of similar classes that figure 10 draws
IMAGES_PER_CLASS = 60
MAX_LABELLED_CLASSES = 60

CONSTRAINED: Mapping[str, str] = {
    "full": "with the orthogonal constraint",
    "no_orthogonal": "without it",
}
"""Figure 10: arm → panel title."""


def find_similarities(evidence: Evidence) -> Findings:
    """Return the cosine of each pair of classes in the attribute and the latent space (fig. 9)."""
    test = evidence.test
    names = np.array(test.class_names)
    unseen = np.isin(np.arange(len(names)), test.unseen_classes)
    first, second = np.triu_indices(len(names), 1)
    data = pd.DataFrame(
        {
            "class_a": names[first],
            "class_b": names[second],
            "a_unseen": unseen[first],
            "b_unseen": unseen[second],
            "attribute_cosine": cosine_similarity(test.class_attributes)[first, second],
            "latent_cosine": cosine_similarity(_prototypes(evidence))[first, second],
        }
    ).sort_values("attribute_cosine", ascending=False, ignore_index=True)
    named = [frozenset(pair) for pair in published()["similar_pairs"]["figure9"]]
    both = zip(data["class_a"], data["class_b"], strict=True)
    data.insert(0, "in_paper", [frozenset(pair) in named for pair in both])
    cosines = data[["attribute_cosine", "latent_cosine"]]
    means, similar = cosines.abs().mean(), cosines.head(NAMED_PAIRS).mean()
    pairs = data[data["in_paper"] | (data.index < NAMED_PAIRS)]
    shown = {"mean absolute cosine": means, f"the {NAMED_PAIRS} most similar pairs": similar}
    found = [
        f"{label} {attribute:.2f} in the attribute and {latent:.2f} in the latent space"
        for label, (attribute, latent) in shown.items()
    ]
    less = all(of.latent_cosine < of.attribute_cosine for of in (means, similar))
    return Findings(
        data=data,
        extra={"most_similar": pairs},
        metrics={**means.add_prefix("mean_"), **similar.add_prefix("most_similar_")},
        claims=(
            *(_pair_claim(pair) for pair in pairs[pairs["in_paper"]].itertuples()),
            Claim(
                "classes are less similar in the latent than in the attribute space",
                ", ".join(found),
                AGREES if less else CONTRADICTS,
            ),
        ),
        sentences=("The model is that of the first seed.",),
    )


def _pair_claim(pair: Any) -> Claim:
    """Compare what the paper says of a pair with what is found."""
    attribute, latent = pair.attribute_cosine, pair.latent_cosine
    return Claim(
        f"{_pair_name(pair)} are similar, with a cosine above {PAPER_SIMILARITY} in the attribute "
        "space, and less so in the latent space",
        f"{attribute:.2f} in the attribute space, {latent:.2f} in the latent space",
        AGREES if attribute > max(PAPER_SIMILARITY, latent) else CONTRADICTS,
    )


def _pair_name(pair: Any) -> str:
    return f"{readable(pair.class_a)} and {readable(pair.class_b)}"


def draw_similarities(evidence: Evidence, findings: Findings) -> Figure:
    """Draw both matrices, the seen classes first, and the most similar pairs by name."""
    test = evidence.test
    order = np.concatenate([test.seen_classes, test.unseen_classes])
    is_labelled = len(order) <= MAX_LABELLED_CLASSES
    size = max(3.8, 0.115 * len(order) + 0.8) if is_labelled else 4.6
    figure, axes = panels(1, 3, width=size, height=size)
    names = [readable(test.class_names[c]) for c in order] if is_labelled else []
    spaces = {"attribute": test.class_attributes, "latent": _prototypes(evidence)}
    for panel, (space, rows) in zip(axes[0][:2], spaces.items(), strict=True):
        matrix = cosine_similarity(rows[order])
        lowest = -1 if matrix.min() < -0.05 else 0
        image = panel.imshow(matrix, vmin=lowest, vmax=1, cmap="cividis")
        panel.axhline(len(test.seen_classes) - 0.5, color="white", lw=0.8)
        panel.axvline(len(test.seen_classes) - 0.5, color="white", lw=0.8)
        panel.spines[:].set_visible(False)
        panel.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        panel.set_yticks(range(len(names)), names, fontsize=6)
        panel.set_title(f"{space} space, seen | unseen classes")
        figure.colorbar(image, ax=panel, shrink=0.7, label="cosine")
    _draw_pairs(axes[0][2], findings.extra["most_similar"])
    return figure


def _draw_pairs(axes: Axes, pairs: pd.DataFrame) -> None:
    places = np.arange(len(pairs))[::-1]
    axes.hlines(places, pairs["latent_cosine"], pairs["attribute_cosine"], color="#BBBBBB")
    axes.scatter(pairs["attribute_cosine"], places, color=ORANGE, marker="s", label="attributes")
    axes.scatter(pairs["latent_cosine"], places, color=BLUE, label="latent space", zorder=3)
    axes.set_yticks(
        places, [f"{_pair_name(one)}{' *' * one.in_paper}" for one in pairs.itertuples()]
    )
    axes.set_xlim(min(0.0, float(pairs["latent_cosine"].min()) - 0.05), 1.02)
    axes.set_xlabel("cosine" + "   (*: named in the paper)" * bool(pairs["in_paper"].any()))
    axes.set_title("similar pairs")
    axes.grid(True, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2)


def find_map(evidence: Evidence) -> Findings:
    """Return a t-SNE map of similar pairs' images, with and without ``L_ors`` (figure 10)."""
    features, images = _images_of_similar_pairs(evidence)
    maps, separations = [], []
    for arm in CONSTRAINED:
        latents = _visual_latents(evidence.model(arm), features)
        x, y = _tsne(arm, latents).T
        maps.append(images.assign(arm=arm, x=x, y=y))
        for _, rows in images.groupby("pair"):
            score = silhouette_score(latents[rows.index], rows["member"], metric="cosine")
            separations.append((arm, *rows["class"].unique(), float(score)))
    separation = pd.DataFrame(separations, columns=["arm", "class_a", "class_b", "silhouette"])
    by_arm = separation.groupby(["arm"])["silhouette"]
    means = by_arm.mean()
    by_pair = (dict(enumerate(by_arm.get_group((arm,)))) for arm in CONSTRAINED)
    difference = paired_difference(*by_pair)
    found = ", ".join(f"{means[arm]:.2f} {title}" for arm, title in CONSTRAINED.items())
    return Findings(
        data=pd.concat(maps, ignore_index=True),
        extra={"separation": separation},
        metrics={f"silhouette_{arm}": float(means[arm]) for arm in CONSTRAINED},
        claims=(
            Claim(
                "the orthogonal constraint separates similar classes",
                f"mean silhouette of the pairs {found}",
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
    """Draw both maps: a colour for each pair, a marker for each of its classes."""
    figure, axes = panels(1, 2, width=4.4, height=4.2)
    colors = (BLUE, ORANGE, GREEN, PURPLE, SKY)
    for panel, (arm, title) in zip(axes[0], CONSTRAINED.items(), strict=True):
        rows = findings.data[findings.data["arm"] == arm]
        for (pair, member, name), points in rows.groupby(["pair", "member", "class"]):
            style: Any = {"color": colors[pair], "label": readable(name), "linewidths": 0.8}
            style |= {"marker": "^", "facecolors": "none"} if member else {"marker": "o"}
            panel.scatter(points["x"], points["y"], s=14, **style)
        mean = findings.metrics[f"silhouette_{arm}"]
        panel.set(title=f"{title} (silhouette {mean:.2f})", xlabel="t-SNE 1 (no unit)")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
    axes[0][0].set_ylabel("t-SNE 2 (no unit)")
    legend_below(figure, axes[0][0], DRAWN_PAIRS)
    return figure


def paper_pairs(figure: str, class_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs that a figure of the paper names, if the data set has both classes."""
    ids = {name: c for c, name in enumerate(class_names)}
    pairs = published()["similar_pairs"][figure]
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
    order = np.argsort(-cosine_similarity(attributes)[a, b], kind="stable")
    pairs: list[tuple[int, int]] = []
    for one, other in (*first, *zip(a[order].tolist(), b[order].tolist(), strict=True)):
        if len(pairs) < count and not {one, other} & {c for pair in pairs for c in pair}:
            pairs.append((one, other))
    return tuple(pairs)


def _images_of_similar_pairs(evidence: Evidence) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the features of test images of similar pairs, and a row about each image."""
    test = evidence.test
    named = paper_pairs("figure10", test.class_names)
    pairs = similar_pairs(test.class_attributes, DRAWN_PAIRS, named)
    features_by_class: dict[int, np.ndarray] = {}
    for part, labels in (
        (test.test_seen_features, test.test_seen_labels),
        (test.test_unseen_features, test.test_unseen_labels),
    ):
        features_by_class |= {
            c: part[labels == c][:IMAGES_PER_CLASS] for c in np.unique(labels).tolist()
        }
    rows = [
        (test.class_names[c], pair, member)
        for pair, classes in enumerate(pairs)
        for member, c in enumerate(classes)
        for _ in features_by_class[c]
    ]
    features = np.concatenate([features_by_class[c] for pair in pairs for c in pair])
    return features, pd.DataFrame(rows, columns=["class", "pair", "member"])


def _tsne(arm: str, latents: np.ndarray) -> np.ndarray:
    if np.ptp(latents, axis=0).max() == 0:
        raise NothingToShowError(f"all latents of {arm} are equal")
    perplexity = min(30.0, (len(latents) - 1) / 3)
    with threadpool_limits(1):  # its threads stall where other work has the cores
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        return np.asarray(tsne.fit_transform(latents))


@torch.no_grad()
def _prototypes(evidence: Evidence) -> np.ndarray:
    """Return the latents of all classes in the complete model."""
    classifier = evidence.model("full")
    return classifier.model.embed_attributes(classifier.class_attributes).numpy()


@torch.no_grad()
def _visual_latents(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    scaled = classifier.scaler(torch.tensor(features))
    return on_hypersphere(classifier.model.embed_features(scaled)).numpy()
