"""Recipes of EMU (Takamoto et al., 2025): four models with 100 dimensions on FB15k-237 and WN18RR.

As the paper: dimension, initialisation, batch size, number of negatives, rate of mutation, label and weight, no
regulariser. Not as the paper: masks and negatives are shared by chunks, both sides are corrupted in one batch, the
last phase with Adam is left out, and the learning rate of Adagrad is that which was best on the validation triples
after 5 (TransE and RotatE on FB15k-237) or 15 epochs with one seed (``docs/results/emu.md``); 50 epochs were not
measured. The JSON files beside this module are written from here.

usage: python -m pykeen_advneg.experiments.emu
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DATASETS", "MODELS", "RATES", "recipe", "recipes"]

EPOCHS = 50

EPOCHS_PER_VALIDATION = 5

#: what a model has besides dimension and initialisation
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "complex": ("ComplEx", {}),
    "distmult": ("DistMult", {"entity_constrainer": None}),
    "rotate": ("RotatE", {}),
    "transe": ("TransE", {"scoring_fct_norm": 1, "entity_constrainer": None}),
}

#: learning rates of Adagrad, by model and data set
RATES: Mapping[str, Mapping[str, float]] = {
    "complex": {"fb15k237": 0.3, "wn18rr": 0.1},
    "distmult": {"fb15k237": 0.3, "wn18rr": 0.3},
    "rotate": {"fb15k237": 0.3, "wn18rr": 0.3},
    "transe": {"fb15k237": 0.1, "wn18rr": 0.1},
}

DATASETS: Mapping[str, str] = {"fb15k237": "FB15k-237", "wn18rr": "WN18RR"}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"emu_{model}_{dataset}": recipe(model, dataset) for model in MODELS for dataset in DATASETS}


def recipe(model: str, dataset: str) -> dict[str, Any]:
    """Build one recipe.

    :param model: one of :data:`MODELS`
    :param dataset: one of :data:`DATASETS`

    :returns: an experiment of PyKEEN
    """
    title, model_kwargs = MODELS[model]
    if model != "rotate":
        # the relations of RotatE are phases
        model_kwargs = dict(relation_initializer="range_uniform_", **model_kwargs)
    return dict(
        metadata=dict(
            title=f"EMU: {title}, {DATASETS[dataset]}",
            comments="Takamoto et al., TMLR 2025, with shared negatives and masks. See docs/samplers/emu.md.",
        ),
        pipeline=dict(
            dataset=dataset,
            model=model,
            model_kwargs=dict(
                embedding_dim=100,
                entity_initializer="range_uniform_",
                regularizer=None,
                **model_kwargs,
            ),
            loss="crossentropy",
            optimizer="sparseadagrad",
            optimizer_kwargs=dict(lr=RATES[model][dataset]),
            training_loop="adversarial",
            negative_sampler="emu",
            negative_sampler_kwargs=dict(
                base="shared",
                base_kwargs=dict(chunk_size=128),
                num_negs_per_pos=256,
                mutation_rate=0.39,
                negative_label=0.53,
                ce_weight=0.11,
                masks="shared",
            ),
            training_kwargs=dict(num_epochs=EPOCHS, batch_size=1000),
            stopper="early",
            stopper_kwargs=dict(
                frequency=EPOCHS_PER_VALIDATION,
                patience=2,
                relative_delta=0.0,
                metric="both.realistic.inverse_harmonic_mean_rank",
            ),
            evaluator="fastrankbased",
            evaluator_kwargs=dict(filtered=True),
        ),
    )


def main() -> None:
    """Write the files."""
    for name, content in recipes().items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
