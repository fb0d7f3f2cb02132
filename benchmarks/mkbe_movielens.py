"""Does MKBE rank ratings better than naive Bayes, and do attributes help? MovieLens-100K, official folds.

The true rating of a user and a film is ranked among the five. Arms: ``r`` (ratings alone), ``rum`` (and all attributes
of users and films but the title), ``rumt`` (and titles); with the loss ``softmax`` over the five ratings of a pair, or
as the authors' code trains (``margin``: a margin of 1.5, summed, the four other ratings and four films). The best epoch
is chosen on 5 % of the training ratings, which are not trained on. ``baselines`` needs no training; it counts.

One JSON line a run is appended to ``OUT/movielens.jsonl``; what stands there is not run again. The data itself is
downloaded from its publisher, and may not be passed on.

usage: python benchmarks/mkbe_movielens.py --out runs --fold 1 --arm baselines --arm r --arm rum --arm rumt --seeds 3
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from pykeen.pipeline import pipeline

from pykeen_advneg.multimodal.datasets import MovieLens100K, rating_relations
from result_lines import append, read

#: the attributes of the arms
ATTRIBUTES = {
    "r": (),
    "rum": ("age", "gender", "occupation", "zip", "release_date", "genre"),
    "rumt": ("age", "gender", "occupation", "zip", "release_date", "genre", "title"),
}
#: the most epochs, also of lines which do not say how many
EPOCHS = 60
#: pseudo-counts of a histogram
PRIOR = 5.0
VALUES = np.arange(1, 6)


def metrics(
    scores: np.ndarray, expected: np.ndarray | None, best: np.ndarray | None, true: np.ndarray
) -> dict[str, float]:
    """Evaluate scores of the five ratings, shape ``(n, 5)``; ties are resolved by the mean rank."""
    own = np.take_along_axis(scores, true[:, None] - 1, axis=1)
    ranks = ((scores > own).sum(1) + (scores >= own).sum(1) + 1) / 2
    best = VALUES[scores.argmax(1)] if best is None else best
    values = {"mrr": float((1 / ranks).mean())} | {f"hits_at_{k}": float((ranks <= k).mean()) for k in (1, 2, 3)}
    values["best.rmse"] = float(np.sqrt(np.mean((best - true) ** 2)))
    if expected is not None:
        values["expected.rmse"] = float(np.sqrt(np.mean((expected - true) ** 2)))
    return values


def histogram(frame: pd.DataFrame, key: str, prior: np.ndarray) -> pd.DataFrame:
    """Estimate the distribution of ratings for each user or film, drawn towards the one of all."""
    table = pd.crosstab(frame[key], frame["rating"]).reindex(columns=VALUES, fill_value=0) + PRIOR * prior
    return table.div(table.sum(axis=1), axis=0)


def bias_model(training: pd.DataFrame, testing: pd.DataFrame, epochs: int = 20, damping: float = 5.0) -> np.ndarray:
    """Predict mean + bias of the user + bias of the film, by damped least squares in turns."""
    mean = training["rating"].mean()
    bias = {"user": pd.Series(dtype=float), "film": pd.Series(dtype=float)}
    for _ in range(epochs):
        for key, other in (("user", "film"), ("film", "user")):
            rest = training["rating"] - mean - training[other].map(bias[other]).fillna(0.0)
            groups = rest.groupby(training[key])
            bias[key] = groups.sum() / (groups.size() + damping)
    predicted = mean + sum(testing[key].map(bias[key]).fillna(0.0) for key in bias)
    return predicted.clip(1, 5).to_numpy()


def baselines(fold: int) -> list[dict[str, Any]]:
    """Evaluate what needs no embedding."""
    files = MovieLens100K(fold=fold).files()
    training, testing = (
        files.ratings(f"u{fold}.{part}").set_axis(["user", "rating", "film"], axis=1) for part in ("base", "test")
    )
    for frame in (training, testing):
        frame["rating"] = frame["rating"].str.removeprefix("rate_").astype(int)
    prior = training["rating"].value_counts(normalize=True).reindex(VALUES).to_numpy()
    tables = {key: histogram(training, key, prior) for key in ("user", "film")}
    p = {
        key: table.reindex(testing[key]).fillna(dict(zip(VALUES, prior, strict=True))).to_numpy()
        for key, table in tables.items()
    }
    bayes = p["user"] * p["film"] / prior
    true = testing["rating"].to_numpy()
    lines = []
    every = {
        "global frequency": np.tile(prior, (len(true), 1)),
        "user histogram": p["user"],
        "film histogram": p["film"],
        "naive Bayes": bayes / bayes.sum(axis=1, keepdims=True),
    }
    for name, scores in every.items():
        lines.append({"arm": name, **metrics(scores, scores @ VALUES, None, true)})
    predicted = bias_model(training, testing)
    scores = -np.abs(VALUES - predicted[:, None])
    lines.append({"arm": "bias model", **metrics(scores, predicted, np.rint(predicted), true)})
    return lines


def settings(interaction: str, loss: str, groups: list[int], dim: int, lr: float, decay: float) -> dict[str, Any]:
    """Give the arguments of the pipeline."""
    regularized = {"regularizer": "powersum", "regularizer_kwargs": {"p": 2.0, "weight": decay, "normalize": False}}
    is_softmax = loss == "softmax"
    return {
        "model": "mkbe",
        "model_kwargs": {
            "embedding_dim": dim,
            "interaction": interaction,
            "entity_kwargs": regularized if decay else {},
        },
        "loss": "crossentropy" if is_softmax else "marginranking",
        "loss_kwargs": {} if is_softmax else {"margin": 1.5, "reduction": "sum"},
        "optimizer": "adam" if is_softmax else "adagrad",
        "optimizer_kwargs": {"lr": lr},
        "training_loop": "adversarial",
        "negative_sampler": "attributetyped",
        "negative_sampler_kwargs": {
            "num_negs_per_pos": 4 if is_softmax else 8,
            "relation_groups": [groups],
            "relation_share": 1.0 if is_softmax else 0.5,
        },
    }


def run(arm: str, fold: int, seed: int, max_epochs: int, batch_size: int, **choice: Any) -> dict[str, Any]:
    """Train, choose the epoch on validation ratings, and evaluate on the fold's test ratings."""
    data = MovieLens100K(fold=fold, attributes=ATTRIBUTES[arm], validation_share=0.05)
    ratings = rating_relations(data.training)
    start = time.perf_counter()
    result = pipeline(
        dataset=data,
        random_seed=seed,
        device="cpu",
        training_kwargs={"num_epochs": max_epochs, "batch_size": batch_size, "use_tqdm": False},
        training_loop_kwargs={"automatic_memory_optimization": False},
        evaluator="relationranking",
        evaluator_kwargs={"relations": ratings},
        stopper="early",
        stopper_kwargs={"frequency": 1, "patience": 8, "relative_delta": 1e-4, "metric": "mrr"},
        **settings(groups=list(ratings), **choice),
    )
    values = result.metric_results.to_flat_dict()
    keys = {"mrr": "realistic.mrr", "best.rmse": "best.rmse", "expected.rmse": "expected.rmse"}
    keys |= {f"hits_at_{k}": f"realistic.hits_at_{k}" for k in (1, 2, 3)}
    stopper: Any = result.stopper
    return {
        "arm": arm,
        "seed": seed,
        **{name: values[key] for name, key in keys.items()},
        "validation_mrr": max(stopper.results),
        "epochs": len(result.losses),
        "seconds_of_training": result.train_seconds,
        "seconds": time.perf_counter() - start,
    }


def main(
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    fold: Annotated[list[int], typer.Option(help="The official fold; may be repeated.")] = [1],  # noqa: B006
    arm: Annotated[list[str], typer.Option(help="baselines, r, rum, rumt; may be repeated.")] = ["baselines"],  # noqa: B006
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 3,
    interaction: Annotated[str, typer.Option(help="An interaction of PyKEEN.")] = "distmult",
    loss: Annotated[str, typer.Option(help="softmax or margin.")] = "softmax",
    dim: Annotated[int, typer.Option(help="The embedding dimension.")] = 64,
    lr: Annotated[float, typer.Option(help="The learning rate.")] = 0.003,
    decay: Annotated[float, typer.Option(help="The weight of the squared norm of entities.")] = 0.0,
    batch_size: Annotated[int, typer.Option(help="The number of positives in a batch.")] = 1024,
    epochs: Annotated[int, typer.Option(help="The most epochs.")] = EPOCHS,
) -> None:
    """Run what is not in the result file yet."""
    torch.set_num_threads(1)
    path = out / "movielens.jsonl"
    done = [{"max_epochs": EPOCHS, **line} for line in read(path)]
    choice = {"interaction": interaction, "loss": loss, "dim": dim, "lr": lr, "decay": decay}
    numbers = {"max_epochs": epochs, "batch_size": batch_size}
    stamp = {"versions": {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg")}}

    def is_done(key: dict[str, Any]) -> bool:
        return any(key.items() <= line.items() for line in done)

    def write(line: dict[str, Any]) -> None:
        append(path, {**line, **stamp})

    for number in fold:
        for name in arm:
            if name == "baselines":
                for line in baselines(number):
                    if not is_done({"fold": number, "arm": line["arm"]}):
                        write({"fold": number, **line})
                continue
            for seed in range(seeds):
                key = {"fold": number, "arm": name, "seed": seed, **choice, **numbers}
                if not is_done(key):
                    write({**key, **run(name, number, seed, **numbers, **choice)})


if __name__ == "__main__":
    typer.run(main)
