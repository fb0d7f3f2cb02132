"""Plain baselines: uniform negatives, many of them, shared within the batch; no trained sampler.

What every trained sampler has to beat at the same budget. How the settings were found, and what they reach, is in
``docs/results/baselines.md``; the JSON files beside this module are written from here.

usage: python -m pykeen_advneg.experiments.baselines
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["SETTINGS", "recipe", "recipes"]

EPOCHS_PER_VALIDATION = 5


def _factors(dim: int, weight: float, **kwargs: Any) -> dict[str, Any]:
    """Set up DistMult or ComplEx: no constraint, the nuclear 3-norm (Lacroix et al., 2018)."""
    return dict(
        embedding_dim=dim,
        entity_initializer="factor_normal_",
        relation_initializer="factor_normal_",
        regularizer="powersum",
        regularizer_kwargs=dict(weight=weight, p=3.0, normalize=False),
        **kwargs,
    )


#: L1 distances, without the unit sphere which PyKEEN has by default
_TRANSE: Mapping[str, Any] = dict(embedding_dim=200, scoring_fct_norm=1, entity_constrainer=None)

#: 100 complex numbers
_ROTATE: Mapping[str, Any] = dict(embedding_dim=100)

#: name -> title, model, model_kwargs, learning rate, number of negatives, chunk size, batch size, epochs
SETTINGS: Mapping[str, tuple[str, str, Mapping[str, Any], float, int, int | None, int, int]] = {
    "complex_fb15k237": ("ComplEx, FB15k-237", "complex", _factors(200, 0.05), 0.1, 2048, None, 1000, 20),
    "complex_wn18rr": ("ComplEx, WN18RR", "complex", _factors(200, 0.05), 0.1, 2048, None, 500, 30),
    "distmult_fb15k237": (
        *("DistMult, FB15k-237", "distmult", _factors(200, 0.05, entity_constrainer=None)),
        *(0.1, 2048, None, 1000, 20),
    ),
    "distmult_wn18rr": (
        *("DistMult, WN18RR", "distmult", _factors(200, 0.05, entity_constrainer=None)),
        *(0.1, 2048, None, 500, 30),
    ),
    "rotate_fb15k237": ("RotatE, FB15k-237", "rotate", _ROTATE, 0.1, 256, 128, 1024, 20),
    "rotate_wn18rr": ("RotatE, WN18RR", "rotate", _ROTATE, 0.1, 256, 128, 512, 30),
    "transe_fb15k237": ("TransE, FB15k-237", "transe", _TRANSE, 0.1, 256, 128, 1024, 20),
    "transe_wn18rr": ("TransE, WN18RR", "transe", _TRANSE, 0.1, 256, 128, 512, 30),
}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"baseline_{name}": recipe(name) for name in SETTINGS}


def recipe(name: str) -> dict[str, Any]:
    """Build one recipe.

    :param name: MODEL_DATASET, one of :data:`SETTINGS`

    :returns: an experiment of PyKEEN
    """
    title, model, model_kwargs, lr, num_negatives, chunk_size, batch_size, num_epochs = SETTINGS[name]
    return dict(
        metadata=dict(
            title=f"Plain baseline: {title}",
            comments="Uniform negatives, shared within the batch; cross-entropy. See docs/results/baselines.md.",
        ),
        pipeline=dict(
            dataset=name.rpartition("_")[2],
            model=model,
            model_kwargs=model_kwargs,
            loss="crossentropy",
            optimizer="sparseadagrad",
            optimizer_kwargs=dict(lr=lr),
            training_loop="adversarial",
            negative_sampler="shared",
            negative_sampler_kwargs=dict(num_negs_per_pos=num_negatives, chunk_size=chunk_size),
            training_kwargs=dict(num_epochs=num_epochs, batch_size=batch_size),
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
