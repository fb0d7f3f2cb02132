"""The recipes of KBGAN (Cai & Wang, 2018), from which the JSON files beside this module are written.

usage: python -m pykeen_advneg.experiments.kbgan
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DATASETS", "DISCRIMINATORS", "GENERATORS", "recipes"]

BATCHES_PER_EPOCH = 100
PRETRAINING_EPOCHS = 1000
ADVERSARIAL_EPOCHS = 5000
EPOCHS_PER_VALIDATION = 100


@dataclass(frozen=True)
class DatasetSettings:
    """What the recipe has for each data set."""

    title: str
    num_triples: int
    #: the generator's L2 weight, by which the sum over an epoch is regularised
    weight: float


DATASETS: Mapping[str, DatasetSettings] = {
    "fb15k237": DatasetSettings("FB15k-237", num_triples=272_115, weight=1.0),
    "wn18rr": DatasetSettings("WN18RR", num_triples=86_835, weight=0.1),
    "wn18": DatasetSettings("WN18", num_triples=141_442, weight=0.1),
}

_BALL = dict(
    entity_initializer="ball_normal_",
    relation_initializer="ball_normal_",
    entity_constrainer="unit_ball",
    relation_constrainer="unit_ball",
)

#: name in the file names -> title, model, model_kwargs
DISCRIMINATORS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "transe": ("TransE", "transe", dict(embedding_dim=50, scoring_fct_norm=1, power_norm=False, **_BALL)),
    "transd": (
        "TransD",
        "kbgantransd",
        dict(embedding_dim=50, interaction_kwargs=dict(p=1, power_norm=False), **_BALL),
    ),
}

_FACTORS = dict(entity_initializer="factor_normal_", relation_initializer="factor_normal_")

#: name -> title, generator_kwargs; 25 complex numbers are 50 real ones
GENERATORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "distmult": ("DistMult", dict(embedding_dim=50, **_FACTORS, entity_constrainer=None, regularizer=None)),
    "complex": ("ComplEx", dict(embedding_dim=25, **_FACTORS, regularizer=None)),
}

#: the results of the paper, as far as a public source confirms the whole row
CONFIRMED = {
    "kbgan_transd_complex_fb15k237": (0.277, 0.458),
    "kbgan_transd_complex_wn18rr": (0.215, 0.469),
    "kbgan_transd_complex_wn18": (0.779, 0.948),
}


def recipes() -> dict[str, dict[str, Any]]:
    """Build all recipes, by name."""
    return {
        f"kbgan_{discriminator}_{generator}_{dataset}": _recipe(discriminator, generator, dataset)
        for discriminator in DISCRIMINATORS
        for generator in GENERATORS
        for dataset in DATASETS
    }


def _recipe(discriminator: str, generator: str, dataset: str) -> dict[str, Any]:
    settings = DATASETS[dataset]
    title, model, model_kwargs = DISCRIMINATORS[discriminator]
    pipeline = dict(
        dataset=dataset,
        model=model,
        model_kwargs=model_kwargs,
        loss="marginranking",
        loss_kwargs=dict(margin=3.0, reduction="sum"),
        optimizer="adam",
        optimizer_kwargs=dict(lr=1e-3),
        training_loop="adversarial",
        training_loop_kwargs=dict(
            pretraining_epochs=PRETRAINING_EPOCHS,
            pretraining_sampler="bernoulli",
            pretraining_sampler_kwargs=dict(num_negs_per_pos=1),
        ),
        negative_sampler="kbgan",
        negative_sampler_kwargs=_sampler_kwargs(generator, settings),
        training_kwargs=dict(
            num_epochs=PRETRAINING_EPOCHS + ADVERSARIAL_EPOCHS,
            batch_size=-(-settings.num_triples // BATCHES_PER_EPOCH),
            drop_last=False,
        ),
        **_evaluation(),
    )
    recipe = dict(
        metadata=_metadata(f"KBGAN: {title}, {GENERATORS[generator][0]} generator, {settings.title}"),
        pipeline=pipeline,
    )
    result = CONFIRMED.get(f"kbgan_{discriminator}_{generator}_{dataset}")
    if result is not None:
        mrr, hits_at_10 = result
        recipe["results"] = dict(mean_reciprocal_rank=mrr, hits_at_k={"10": hits_at_10})
    return recipe


def _metadata(title: str) -> dict[str, Any]:
    return dict(
        title=title,
        comments=(
            "KBGAN: Adversarial Learning for Knowledge Graph Embeddings. Liwei Cai, William Yang Wang. NAACL-HLT 2018. "
            "Settings from the configuration files of the authors' code. "
            "Where this recipe differs is listed in docs/samplers/kbgan.md."
        ),
        link="https://aclanthology.org/N18-1133/",
        arxiv="1711.04071",
        github="cai-lw/KBGAN",
    )


def _sampler_kwargs(generator: str, settings: DatasetSettings) -> dict[str, Any]:
    return dict(
        generator=generator,
        generator_kwargs=GENERATORS[generator][1],
        generator_optimizer="adam",
        generator_optimizer_kwargs=dict(lr=1e-3, weight_decay=settings.weight / BATCHES_PER_EPOCH),
        num_candidates=20,
        num_negs_per_pos=1,
        temperature=1.0,
        side="bernoulli",
        baseline="epoch",
        filtered=False,
    )


def _evaluation() -> dict[str, Any]:
    """Validate at regular intervals, never stop, and keep the best epoch, as the authors do."""
    epochs = PRETRAINING_EPOCHS + ADVERSARIAL_EPOCHS
    return dict(
        stopper="early",
        stopper_kwargs=dict(
            frequency=EPOCHS_PER_VALIDATION,
            patience=epochs // EPOCHS_PER_VALIDATION,
            relative_delta=0.0,
            metric="both.realistic.inverse_harmonic_mean_rank",
        ),
        evaluator="fastrankbased",
        evaluator_kwargs=dict(filtered=True),
    )


def main() -> None:
    """Write the files."""
    for name, recipe in recipes().items():
        text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
        Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
