"""Embeddings before and after pruning: neighbors, clusters and t-SNE maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from aerogel.errors import CheckpointError, UsageError, require
from aerogel.hf.load import load_model
from aerogel.hf.quiet import quiet
from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Subject

__all__ = ["SECTION", "neighbours_kept"]

# More points make t-SNE slow and do not show more.
_POINTS, _CLUSTERS, _NEIGHBOURS = 1000, 8, 10
_LENGTH, _BATCH = 128, 32
# Fewest distinct points; must exceed the perplexity of t-SNE.
_MIN_POINTS = 40


class _Embeddings(Section):
    title = "Embeddings before and after"
    order = 70

    def analyse(self, subject: Subject) -> Finding | None:
        if not subject.dense:
            return None
        before, after, what = _sample(subject)
        cluster = require("sklearn.cluster", "inspect").KMeans(_CLUSTERS, n_init=4, random_state=subject.seed)
        metrics = require("sklearn.metrics", "inspect")
        label = cluster.fit_predict(before)
        label_after = cluster.fit_predict(after)
        kept = neighbours_kept(before, after, _NEIGHBOURS)
        same = bool(np.array_equal(before, after))
        data = {
            "what": what, "points": len(before), "identical": same, "neighbours_kept": kept,
            "neighbours_kept_random": _NEIGHBOURS / (len(before) - 1),
            "silhouette_before": float(metrics.silhouette_score(before, label)),
            "silhouette_after": float(metrics.silhouette_score(after, label)),
            "rand_index": float(metrics.adjusted_rand_score(label, label_after)),
            "clusters": label.tolist(), "before": _map(before, subject.seed), "after": _map(after, subject.seed),
        }  # fmt: skip
        rows = [
            [
                f"{_NEIGHBOURS} nearest neighbors kept",
                f"{kept:.1%}",
                f"{data['neighbours_kept_random']:.1%}",
            ],
            ["clusters found in both (adjusted Rand index)", f"{data['rand_index']:.3f}", "0"],
            ["silhouette of the dense model's clusters", f"{data['silhouette_before']:.3f}", "0"],
            ["silhouette of these clusters in the pruned model", f"{data['silhouette_after']:.3f}", "0"],
        ]
        notes = [
            f"{what.capitalize()} of {len(before)} tokens; the dense model is {subject.dense}. Clusters are from "
            f"k-means with {_CLUSTERS} centers. On a t-SNE map only neighborhoods are meaningful, not distances."
        ]
        if same:
            summary = [
                "The word embeddings equal the dense model's (they were frozen); give --text to compare last hidden "
                "states instead."
            ]
        else:
            summary = [
                f"Of each token's {_NEIGHBOURS} nearest neighbors in the dense model, {kept:.0%} are still among the "
                f"nearest {_NEIGHBOURS} after pruning."
            ]
        return Finding(
            data, [Table("Neighbours and clusters", ("measure", "value", "chance"), rows)], notes, summary
        )

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del subject
        figure, plots = figures.axes(1, 2, 4.5, 4.2)
        label = np.array(finding.data["clusters"])
        for plot, name, title in zip(plots.flat, ("before", "after"), ("dense", "pruned"), strict=True):
            points = np.array(finding.data[name])
            for number in range(_CLUSTERS):
                at = points[label == number]
                plot.scatter(at[:, 0], at[:, 1], s=6, color=figures.COLOURS[number])
            plot.set_title(title, fontsize=10)
            plot.set_xticks([])
            plot.set_yticks([])
        caption = (
            f"t-SNE of {finding.data['what']}; both maps are colored by the clusters of the dense model."
        )
        return [Picture("embeddings", caption, figure)]


def neighbours_kept(before: np.ndarray, after: np.ndarray, count: int) -> float:
    """Mean fraction of a point's `count` nearest neighbors in `before` that it keeps in `after`; both ``[n, d]``."""
    nearest = require("sklearn.neighbors", "inspect").NearestNeighbors
    sets = [
        nearest(n_neighbors=count).fit(points).kneighbors(return_distance=False) for points in (before, after)
    ]
    return float(np.mean([len(set(a) & set(b)) / count for a, b in zip(*sets, strict=True)]))


def _map(points: np.ndarray, seed: int) -> list[list[float]]:
    """A t-SNE map ``[n, 2]``. Initialization by PCA makes it reproducible up to rotation."""
    tsne = require("sklearn.manifold", "inspect").TSNE(2, init="pca", perplexity=30, random_state=seed)
    made: list[list[float]] = np.round(tsne.fit_transform(points), 3).tolist()
    return made


def _sample(subject: Subject) -> tuple[np.ndarray, np.ndarray, str]:
    """Embeddings ``[n, hidden]`` of the same tokens before and after pruning, and a name for them."""
    require("torch", "export")
    transformers = require("transformers", "export")
    assert subject.dense is not None
    if not (subject.dense / "config.json").is_file():
        raise UsageError(
            f"--dense {subject.dense} has no config.json; give the directory of the model before pruning"
        )
    with quiet():
        models = [load_model(path, None) for path in (subject.dense, subject.checkpoint.path)]
    tables = [_table(model) for model in models]
    if tables[0].shape != tables[1].shape:
        shapes = " and ".join("x".join(map(str, table.shape)) for table in tables)
        raise UsageError(
            f"--dense {subject.dense}: word embeddings of {shapes}; give the model that was pruned"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            subject.checkpoint.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises errors of many types
        raise CheckpointError(
            f"{subject.checkpoint.path}: cannot load its tokenizer; save the tokenizer there again"
        ) from error
    random = np.random.default_rng(subject.seed)
    if subject.texts:
        found = [_contextual(model, tokenizer, subject.texts) for model in models]
        what = "last hidden states"
    else:
        # Unused entries, such as [unused17], would form their own cluster.
        words = [
            at for token, at in sorted(tokenizer.get_vocab().items()) if not token.startswith(("[", "<"))
        ]
        found = [table[[at for at in words if at < len(table)]] for table in tables]
        what = "word embeddings"
    for path, points in zip((subject.dense, subject.checkpoint.path), found, strict=True):
        if not np.isfinite(points).all():
            raise CheckpointError(f"{path}: its {what} have NaN or infinite values; give another model")
        # Equal points, such as those of a repeated line, do not form clusters.
        if (distinct := len(np.unique(points, axis=0))) < _MIN_POINTS:
            raise UsageError(
                f"{distinct} distinct {what} are too few; at least {_MIN_POINTS} are needed, give more --text"
            )
    count = len(found[0])
    rows = random.permutation(count)[:_POINTS]
    return found[0][rows], found[1][rows], what


def _table(model: Any) -> np.ndarray:
    """Word embeddings ``[vocabulary, hidden]``."""
    table: np.ndarray = model.get_input_embeddings().weight.detach().numpy()
    return table


def _contextual(model: Any, tokenizer: Any, texts: tuple[str, ...]) -> np.ndarray:
    """Last hidden states ``[tokens, hidden]`` of all tokens of `texts` except special tokens."""
    import torch

    states = []
    base: Any = model.base_model
    length = min(
        _LENGTH, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _LENGTH) - 2
    )
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer(
            list(texts[start : start + _BATCH]), padding=True, truncation=True, max_length=length,
            return_tensors="pt", return_special_tokens_mask=True,
        )  # fmt: skip
        plain = ~batch.pop("special_tokens_mask").bool() & batch["attention_mask"].bool()
        with torch.inference_mode():
            states.append(base(**batch).last_hidden_state[plain].float().numpy())
    return np.concatenate(states)


SECTION = _Embeddings()
