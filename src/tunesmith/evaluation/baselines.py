"""Baselines: simpler answers to the same question, on the same split, with the same metrics; a function each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tunesmith.evaluation.learnable import Learnable, reads
from tunesmith.evaluation.linear import class_chances, tuned_outputs

MOST_ROWS = 100_000
"""Baselines learn from at most so many rows, evenly spaced: enough to be fair, few enough for bounded memory."""


NEIGHBOURS, TEMPERATURE = 20, 0.07
"""As published (Wu et al. 2018), but that 200 neighbours are too many for a few hundred rows."""

MOST_CODES = 255
"""A column of more categories is a number to the trees."""


def majority(rows: Learnable) -> np.ndarray:
    """The share of each label among the training rows, for every row: probabilities (rows, labels)."""
    if rows.codes.ndim == 2:
        share = rows.codes.mean(0)
    else:
        share = np.bincount(rows.codes, minlength=rows.target.num_outputs) / len(rows.codes)
    return np.tile(share, (len(rows.asked), 1))


def tfidf_logistic(rows: Learnable) -> np.ndarray:
    """TF-IDF of words and word pairs (characters where words are not spaced), logistic regression."""
    train, asked = _features(rows)
    return class_chances(train, rows.codes, asked, rows.target.num_outputs, C=10, max_iter=1000)


def plain_logistic(rows: Learnable) -> np.ndarray:
    """Logistic regression on what needs no pretrained model: thumbnails and colours of images, numbers of items."""
    train, asked = _standardised(rows)
    return class_chances(train, rows.codes, asked, rows.target.num_outputs, C=0.01, max_iter=300)


@reads("edges")
def edges_logistic(rows: Learnable) -> np.ndarray:
    """Logistic regression on how strong edges of each direction are in each part of an image (Dalal & Triggs 2005)."""
    return plain_logistic(rows)


@reads("edges")
def edges_ridge(rows: Learnable) -> np.ndarray:
    """Ridge regression on the same."""
    return plain_ridge(rows)


@reads("frozen")
def frozen_logistic(rows: Learnable) -> np.ndarray:
    """Logistic regression on what the untouched model gives; its penalty is chosen on folds of the training rows."""
    outputs = tuned_outputs(np.asarray(rows.texts), rows.codes, np.asarray(rows.asked), rows.target.num_outputs)
    values = torch.from_numpy(outputs)
    chances = values.sigmoid() if rows.codes.ndim == 2 else values.softmax(-1)
    return np.asarray(chances.numpy())


@reads("frozen")
def frozen_ridge(rows: Learnable) -> np.ndarray:
    """Ridge regression on the same."""
    return tuned_outputs(np.asarray(rows.texts), rows.codes, np.asarray(rows.asked), 1)


@reads("frozen")
def frozen_neighbours(rows: Learnable) -> np.ndarray:
    """The 20 training rows whose features point most alike, each weighing exp(cosine / 0.07) (Wu et al. 2018); labels
    that none of them has keep a little of their share."""
    known, asked = (
        torch.nn.functional.normalize(torch.from_numpy(np.asarray(some)).float(), dim=-1)
        for some in (rows.texts, rows.asked)
    )
    codes = torch.from_numpy(rows.codes)
    if not codes.is_floating_point():
        codes = torch.nn.functional.one_hot(codes, rows.target.num_outputs)
    values = codes.float().reshape(len(known), -1)
    found = []
    for some in asked.split(1024):
        near, places = (some @ known.T).topk(min(NEIGHBOURS, len(known)))
        weights = ((near - near[:, :1]) / TEMPERATURE).exp()
        told = (weights[:, :, None] * values[places]).sum(1) + 0.01 * values.mean(0)
        found.append(told / (weights.sum(1, keepdim=True) + 0.01))
    return torch.cat(found).numpy().astype(np.float64)


def plain_ridge(rows: Learnable) -> np.ndarray:
    """Ridge regression on the same."""
    from sklearn.linear_model import Ridge

    train, asked = _standardised(rows)
    centre = rows.codes.mean()
    return np.asarray(Ridge(alpha=100.0).fit(train, rows.codes - centre).predict(asked) + centre)[:, None]


def boosted_trees(rows: Learnable) -> np.ndarray:
    """Gradient-boosted trees, scikit-learn's HistGradientBoosting with its defaults: what is hard to beat on tables."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    train, asked = np.asarray(rows.texts, np.float64), np.asarray(rows.asked, np.float64)
    coded = [
        place
        for place, is_code in enumerate(rows.categorical)
        if is_code and np.nanmax(np.r_[train[:, place], asked[:, place], 0.0]) < MOST_CODES
    ]
    options = {"categorical_features": coded or None, "random_state": 0}
    if rows.codes.ndim == 1 and rows.codes.dtype.kind == "f":
        model = HistGradientBoostingRegressor(**options).fit(train, rows.codes)
        return np.asarray(model.predict(asked))[:, None]
    several = rows.codes.ndim == 2
    columns = []
    for codes in rows.codes.T if several else [rows.codes]:
        chances = np.zeros((len(asked), 2 if several else rows.target.num_outputs))
        codes = codes.astype(np.int64)
        if codes.min() == codes.max():
            chances[:, codes[0]] = 1.0
        else:
            model = HistGradientBoostingClassifier(**options).fit(train, codes)
            chances[:, model.classes_] = model.predict_proba(asked)
        columns.append(chances[:, 1] if several else chances)
    return np.stack(columns, 1) if several else columns[0]


def _standardised(rows: Learnable) -> tuple[np.ndarray, np.ndarray]:
    train, asked = np.asarray(rows.texts, np.float64), np.asarray(rows.asked, np.float64)
    mean, std = train.mean(0), train.std(0)
    std[std < 1e-9] = 1.0
    return (train - mean) / std, (asked - mean) / std


def mean(rows: Learnable) -> np.ndarray:
    """The mean of the training rows, for every row."""
    return np.full((len(rows.asked), 1), rows.codes.mean())


def tfidf_ridge(rows: Learnable) -> np.ndarray:
    """TF-IDF of words and word pairs, ridge regression."""
    from sklearn.linear_model import Ridge

    train, asked = _features(rows)
    centre = rows.codes.mean()
    return np.asarray(Ridge(alpha=1.0).fit(train, rows.codes - centre).predict(asked) + centre)[:, None]


def _features(rows: Learnable) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaced = np.mean([" " in text.strip() or len(text) < 8 for text in rows.texts[:1000]]) > 0.5
    options: dict[str, Any] = {"ngram_range": (1, 2)} if spaced else {"analyzer": "char", "ngram_range": (1, 3)}
    try:
        vectors = TfidfVectorizer(sublinear_tf=True, max_features=300_000, **options)
        return vectors.fit_transform(rows.texts), vectors.transform(rows.asked)
    except ValueError:  # no word in any text: signs and numbers alone
        vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), max_features=300_000)
        return vectors.fit_transform(rows.texts), vectors.transform(rows.asked)
