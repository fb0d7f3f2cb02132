"""The recipes of MMRNS (Xu et al., 2022), from which the JSON files beside this module are written.

The settings are those of the one command which the authors publish (TransE on DB15K). Features are read from the file
``features.safetensors`` in the working directory, which ``MultimodalFeatures.save`` writes.

usage: python -m pykeen_advneg.experiments.mmrns
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["FEATURES", "recipe", "recipes"]

FEATURES = "features.safetensors"

STEPS = 100_000
STEPS_PER_VALIDATION = 10_000
BATCH_SIZE = 400

#: name -> title, number of training triples
DATASETS: Mapping[str, tuple[str, int]] = {"fb15k237": ("FB15k-237", 272_115), "wn18rr": ("WN18RR", 86_835)}

#: name -> title, keyword-based parameters, margin
MODELS: Mapping[str, tuple[str, Mapping[str, Any], float]] = {
    "transe": ("TransE", dict(embedding_dim=200, scoring_fct_norm=1, entity_constrainer=None), 6.0),
    "rotate": ("RotatE", dict(embedding_dim=200), 6.0),
    "distmult": ("DistMult", dict(embedding_dim=200, entity_constrainer=None, regularizer=None), 0.0),
}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {f"mmrns_{model}_{dataset}": recipe(model, dataset) for model in MODELS for dataset in DATASETS}


def recipe(model: str, dataset: str) -> dict[str, Any]:
    """Build one recipe.

    :param model: one of :data:`MODELS`
    :param dataset: one of :data:`DATASETS`

    :returns: an experiment of PyKEEN
    """
    (title, model_kwargs, margin), (name, num_triples) = MODELS[model], DATASETS[dataset]
    steps_per_epoch = math.ceil(num_triples / BATCH_SIZE)
    return dict(
        metadata=dict(
            title=f"MMRNS: {title}, {name}",
            comments=(
                "Relation-enhanced Negative Sampling for Multimodal Knowledge Graph Completion. Derong Xu, Tong Xu, "
                "Shiwei Wu, Jingbo Zhou, Enhong Chen. ACM MM 2022. Settings of the authors' one published command, on "
                f"another data set; features from the file {FEATURES}. See docs/samplers/mmrns.md."
            ),
            link="https://doi.org/10.1145/3503161.3548388",
            github="quqxui/MMRNS",
        ),
        pipeline=dict(
            dataset=dataset,
            model=model,
            model_kwargs=model_kwargs,
            loss="nssa",
            loss_kwargs=dict(margin=margin, adversarial_temperature=0.5),
            optimizer="adam",
            optimizer_kwargs=dict(lr=1e-4),
            training_loop="adversarial",
            negative_sampler="mmrns",
            negative_sampler_kwargs=dict(
                features=FEATURES,
                num_negs_per_pos=20,
                pool_size=1500,
                exploration=10.0,
                contrast_weight=0.01,
                objective="mmrns",
                margin=margin,
                adversarial_temperature=0.5,
                optimizer="adam",
                optimizer_kwargs=dict(lr=1e-4),
            ),
            training_kwargs=dict(num_epochs=math.ceil(STEPS / steps_per_epoch), batch_size=BATCH_SIZE),
            stopper="early",
            stopper_kwargs=dict(
                frequency=math.ceil(STEPS_PER_VALIDATION / steps_per_epoch),
                patience=STEPS // STEPS_PER_VALIDATION,
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
