"""The recipes of DANS (Liu et al., 2024), from which the JSON files beside this module are written.

usage: python -m pykeen_advneg.experiments.dans
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DATASETS", "recipes"]

#: a step of the authors is one subgraph, which they call an epoch
PRETRAINING_STEPS = 1200
STEPS = 5000
STEPS_PER_VALIDATION = 100


@dataclass(frozen=True)
class DatasetSettings:
    """What the recipe has for each data set."""

    title: str
    num_triples: int
    batch_size: int


#: 1,000 edges for UMLS are the paper's; 30,000 are the default of the authors' code
DATASETS: Mapping[str, DatasetSettings] = {
    "umls": DatasetSettings("UMLS", num_triples=5_216, batch_size=1_000),
    "wn18rr": DatasetSettings("WN18RR", num_triples=86_835, batch_size=30_000),
}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"dans_rgcn_distmult_{dataset}": _recipe(dataset) for dataset in DATASETS}


def _recipe(dataset: str) -> dict[str, Any]:
    settings = DATASETS[dataset]
    batches = -(-settings.num_triples // settings.batch_size)
    pretraining_epochs, epochs = (-(-steps // batches) for steps in (PRETRAINING_STEPS, STEPS))
    frequency = -(-STEPS_PER_VALIDATION // batches)
    total = pretraining_epochs + epochs
    pipeline = dict(
        dataset=dataset,
        **_model(),
        loss="bcewithlogits",
        optimizer="adam",
        optimizer_kwargs=dict(lr=1e-2),
        training_loop="adversarial",
        training_loop_kwargs=dict(
            pretraining_epochs=pretraining_epochs,
            pretraining_sampler="basic",
            pretraining_sampler_kwargs=dict(num_negs_per_pos=20),
        ),
        negative_sampler="dans",
        negative_sampler_kwargs=_sampler_kwargs(),
        training_kwargs=dict(num_epochs=total, batch_size=settings.batch_size, gradient_clipping_max_norm=1.0),
        stopper="early",
        stopper_kwargs=dict(
            frequency=frequency,
            patience=total // frequency,
            relative_delta=0.0,
            metric="both.realistic.inverse_harmonic_mean_rank",
        ),
        evaluator="fastrankbased",
        evaluator_kwargs=dict(filtered=True),
    )
    return dict(metadata=_metadata(f"DANS: R-GCN, DistMult, {settings.title}"), pipeline=pipeline)


def _model() -> dict[str, Any]:
    return dict(
        model="rgcn",
        model_kwargs=dict(
            embedding_dim=100,
            num_layers=2,
            interaction="distmult",
            decomposition="bases",
            decomposition_kwargs=dict(num_bases=4),
            activation="relu",
            edge_dropout=0.0,
            self_loop_dropout=0.0,
            regularizer="powersum",
            regularizer_kwargs=dict(weight=0.01, p=2.0, normalize=True),
        ),
    )


def _sampler_kwargs() -> dict[str, Any]:
    return dict(
        num_generated_entity=5,
        num_generated_relation=5,
        num_negs_per_pos=10,
        base="basic",
        noise=0.01,
        film_regularization=1e-4,
        discriminator_steps=10,
        generator_optimizer_kwargs=dict(lr=1e-3, betas=[0.5, 0.999]),
        discriminator_optimizer_kwargs=dict(lr=1e-4, betas=[0.5, 0.999]),
    )


def _metadata(title: str) -> dict[str, Any]:
    return dict(
        title=title,
        comments=(
            "Diversified and Adaptive Negative Sampling on Knowledge Graphs. Ran Liu, Zhongzhou Liu, Xiaoli Li, Hao "
            "Wu, Yuan Fang. 2024. Numbers of steps, and what the paper does not say, are from the authors' code. "
            "Where this recipe differs is listed in docs/samplers/dans.md."
        ),
        link="https://arxiv.org/abs/2410.07592",
        arxiv="2410.07592",
        github="smufang/DANS",
    )


def main() -> None:
    """Write the files."""
    for name, recipe in recipes().items():
        text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
        Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
