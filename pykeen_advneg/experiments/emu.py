"""Recipes of EMU (Takamoto et al., 2025): DistMult and ComplEx with 100 dimensions on FB15k-237.

As the paper: dimension, initialisation, batch size, number of negatives, rate of mutation, label and weight, no
regulariser. Not as the paper: masks and negatives are shared by chunks, both sides are corrupted in one batch, the
last phase with Adam is left out, and the learning rate of Adagrad is 0.3 instead of 0.1, which was slightly better on
the validation triples after 15 epochs with one seed (``docs/results/emu.md``); 50 epochs were not measured. The JSON
files beside this module are written from here.

usage: python -m pykeen_advneg.experiments.emu
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["SETTINGS", "recipe", "recipes"]

EPOCHS = 50

EPOCHS_PER_VALIDATION = 5

#: name -> title, model, what it has besides dimension and initialisation
SETTINGS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "complex_fb15k237": ("ComplEx, FB15k-237", "complex", {}),
    "distmult_fb15k237": ("DistMult, FB15k-237", "distmult", {"entity_constrainer": None}),
}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"emu_{name}": recipe(name) for name in SETTINGS}


def recipe(name: str) -> dict[str, Any]:
    """Build one recipe.

    :param name: MODEL_DATASET, one of :data:`SETTINGS`

    :returns: an experiment of PyKEEN
    """
    title, model, model_kwargs = SETTINGS[name]
    return dict(
        metadata=dict(
            title=f"EMU: {title}",
            comments="Takamoto et al., TMLR 2025, with shared negatives and masks. See docs/samplers/emu.md.",
        ),
        pipeline=dict(
            dataset=name.rpartition("_")[2],
            model=model,
            model_kwargs=dict(
                embedding_dim=100,
                entity_initializer="range_uniform_",
                relation_initializer="range_uniform_",
                regularizer=None,
                **model_kwargs,
            ),
            loss="crossentropy",
            optimizer="sparseadagrad",
            optimizer_kwargs=dict(lr=0.3),
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
