"""Which negatives suit a graph with numbers? MKBE on FB15k-237 with the numbers of its entities.

Arms: ``uniform`` (the sampler ``shared``), ``attributetyped`` (a value of the same attribute, an entity which some
triple of the relation has), ``kbgan`` and ``emu``. Model, epochs and batches are the same, scores are not: 256
negatives a positive for ``uniform``, each scored twice for ``emu``, 32 for ``attributetyped``, 32 of 256 candidates
for ``kbgan``. Each arm has its own learning rate, the best of a grid by validation MRR of links with seed 0, and then
other seeds. Links are ranked among entities (filtered, both sides), values among the values of their attribute (mean
of the MRR over the attributes).

One JSON line a run is appended to ``OUT/samplers.jsonl``; what stands there is not run again.

usage: python benchmarks/mkbe_samplers.py --out runs
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pykeen.pipeline import pipeline

from mkbe_numeric import MOST_FREQUENT
from pykeen_advneg.multimodal.datasets import FB15k237Numeric
from pykeen_advneg.multimodal.evaluation import EntityRankingEvaluator, rank_values
from result_lines import run_tuned

METRIC = "both.realistic.inverse_harmonic_mean_rank"

#: the sampler of an arm, its parameters, and the loss
ARMS: dict[str, dict[str, Any]] = {
    "uniform": dict(
        negative_sampler="shared",
        negative_sampler_kwargs=dict(num_negs_per_pos=256, chunk_size=128),
        loss="crossentropy",
    ),
    "attributetyped": dict(
        negative_sampler="attributetyped",
        negative_sampler_kwargs=dict(num_negs_per_pos=32, side="uniform"),
        loss="crossentropy",
    ),
    "kbgan": dict(
        negative_sampler="kbgan",
        negative_sampler_kwargs=dict(num_negs_per_pos=32, num_candidates=256, chunk_size=128),
        loss="crossentropy",
    ),
    "emu": dict(
        negative_sampler="emu",
        negative_sampler_kwargs=dict(num_negs_per_pos=256, base_kwargs=dict(chunk_size=128)),
        loss="crossentropy",
    ),
}


def run(arm: str, settings: dict[str, Any], seed: int, lr: float, epochs: int, dim: int) -> dict[str, Any]:
    """Train, and evaluate links and values."""
    data = FB15k237Numeric(min_count=MOST_FREQUENT)
    result = pipeline(
        dataset=data,
        model="mkbe",
        model_kwargs=dict(embedding_dim=dim, interaction="distmult"),
        optimizer="sparseadagrad",
        optimizer_kwargs=dict(lr=lr),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False),
        training_kwargs=dict(num_epochs=epochs, batch_size=1024, use_tqdm=False),
        evaluator="entityranking",
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=seed,
        device="cpu",
        **settings,
    )
    model: Any = result.model
    known = [data.training.mapped_triples]
    validated = EntityRankingEvaluator().evaluate(
        model, data.validation.mapped_triples, additional_filter_triples=known, use_tqdm=False
    )
    ranked = rank_values(model, data.testing.mapped_triples)
    return {
        "validation_mrr": validated.get_metric(METRIC),
        "mrr": result.get_metric(METRIC),
        "hits_at_10": result.get_metric("both.realistic.hits_at_10"),
        "value_mrr": float(np.mean([values.get_metric("tail.realistic.mrr") for values in ranked.values()])),
        "seconds_of_training": result.train_seconds,
    }


def main(
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    arm: Annotated[list[str], typer.Option(help="The arms; may be repeated.")] = list(ARMS),  # noqa: B006
    rates: Annotated[list[float], typer.Option("--rate", help="Learning rates; may be repeated.")] = [0.03, 0.1, 0.3],  # noqa: B006
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 3,
    epochs: Annotated[int, typer.Option(help="How many epochs.")] = 10,
    dim: Annotated[int, typer.Option(help="The embedding dimension.")] = 100,
) -> None:
    """Run what is not in the result file yet."""
    torch.set_num_threads(1)
    stamp = {"versions": {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg")}}
    arms = [{"arm": name, "settings": ARMS[name], "epochs": epochs, "dim": dim} for name in arm]
    run_tuned(out / "samplers.jsonl", arms, rates, seeds, lambda **key: {**run(**key), **stamp})


if __name__ == "__main__":
    typer.run(main)
