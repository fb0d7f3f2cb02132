"""Recipes of MKBE (Pezeshkpour et al., 2018): DistMult on MovieLens-100K as the authors' code, and on FB15k-237.

As the code on MovieLens: dimension, margin, batch size, the four other ratings and a random film, tails only, Adagrad
with .7. Not as the code: one learning rate for all, in place of .0001 for relations and the GRU; no activation after an
encoder; one layer of the GRU; as many epochs as its 1,800 steps make, each of them in another order, where the code
draws its 512 rows a step with replacement; no L2 (the code: 5e-6 of half the squared norms of tables and encoders);
objects as they are, where the code brings them to length 1 beside the relations; Xavier's uniform start, where the code
draws from a truncated normal distribution of deviation sqrt(1.3 * 24 / dimension); no posters; ages and dates of other
entities as negatives, where the code draws normal numbers; and none of its errors, see ``docs/mkbe.md``. The JSON files
beside this module are written from here.

usage: python -m pykeen_advneg.experiments.mkbe
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["recipe", "recipes"]

#: the ids of the ratings, which are the first relations of the data set, and what they are worth
RATINGS = {str(i): float(i + 1) for i in range(5)}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"mkbe_distmult_{name}": recipe(name) for name in ("fb15k237numeric", "movielens100k")}


def recipe(name: str) -> dict[str, Any]:
    """Build one recipe.

    :param name: ``fb15k237numeric`` or ``movielens100k``

    :returns: an experiment of PyKEEN
    """
    is_movielens = name == "movielens100k"
    return dict(
        metadata=dict(
            title=f"MKBE: DistMult, {'MovieLens-100K, fold 1' if is_movielens else 'FB15k-237 with numbers'}",
            comments="Pezeshkpour et al., EMNLP 2018, without the errors of the code. See docs/mkbe.md.",
        ),
        pipeline=dict(dataset=name, model="mkbe", **(_movielens() if is_movielens else _numeric())),
    )


def _movielens() -> dict[str, Any]:
    return dict(
        dataset_kwargs=dict(fold=1),
        model_kwargs=dict(embedding_dim=128, interaction="distmult", relation_kwargs=dict(normalizer="normalize")),
        loss="marginranking",
        loss_kwargs=dict(margin=1.5, reduction="sum"),
        optimizer="adagrad",
        optimizer_kwargs=dict(lr=0.7, initial_accumulator_value=0.1),
        training_loop="adversarial",
        negative_sampler="attributetyped",
        negative_sampler_kwargs=dict(
            num_negs_per_pos=5, relation_groups=[sorted(map(int, RATINGS))], relation_share=0.8
        ),
        training_kwargs=dict(num_epochs=10, batch_size=512),
        evaluator="relationranking",
        evaluator_kwargs=dict(relations=RATINGS),
    )


def _numeric() -> dict[str, Any]:
    return dict(
        dataset_kwargs=dict(min_count=200),
        model_kwargs=dict(embedding_dim=100, interaction="distmult"),
        loss="crossentropy",
        optimizer="sparseadagrad",
        optimizer_kwargs=dict(lr=0.1),
        training_loop="adversarial",
        negative_sampler="shared",
        negative_sampler_kwargs=dict(num_negs_per_pos=512, chunk_size=256),
        training_kwargs=dict(num_epochs=20, batch_size=1024),
        evaluator="entityranking",
    )


def main() -> None:
    """Write the files."""
    for name, made in recipes().items():
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
