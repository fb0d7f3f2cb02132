"""LibKGE's published configurations for FB15k-237 with negative sampling, with its own negatives and with others.

The numbers are those of Ruffinelli et al. (2020), https://github.com/uma-pi1/kge-iclr20, the folders
`fb15k-237/*-negative_sampling-kl-bo-best`; after up to 400 epochs of them, TransE has .313 and ComplEx .348 test MRR in
the table of LibKGE's README. Left out: dropout below 0, which is none, weights of regularisers below 1e-7, and the
schedule of the learning rate and early stopping, which need more epochs than are run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arms import OWN, libkge, plugin, scored
from jobs import TYPE

__all__ = ["PUBLISHED", "arms_of_published", "options_of_published"]

#: the number of negatives for the slots s and o, and all other options
PUBLISHED: Mapping[str, tuple[tuple[int, int], Mapping[str, Any]]] = {
    "transe": (
        (61, 192),
        {
            "reciprocal_relations_model.base_model.type": "transe",
            "transe.l_norm": 2.0,
            "lookup_embedder.dim": 128,
            "lookup_embedder.initialize_args.uniform_.a": -1e-05,
            "train.batch_size": 128,
            "train.optimizer.default.type": "Adam",
            "train.optimizer.default.args.lr": 0.0003,
        },
    ),
    "complex": (
        (529, 1000),
        {
            "reciprocal_relations_model.base_model.type": "complex",
            "complex.entity_embedder.dropout": 0.5,
            "complex.relation_embedder.dropout": 0.22684140529516872,
            "lookup_embedder.dim": 256,
            "lookup_embedder.initialize_args.uniform_.a": -0.8328168489829233,
            "train.batch_size": 1024,
            "train.optimizer.default.type": "Adagrad",
            "train.optimizer.default.args.lr": 0.18255429345236635,
        },
    ),
}


def options_of_published(model: str) -> dict[str, Any]:
    """Give what all arms of a model have in common."""
    common = {
        "import": [TYPE, "reciprocal_relations_model", model],
        "model": "reciprocal_relations_model",
        "lookup_embedder.initialize": "uniform_",
        "lookup_embedder.regularize": "",
        "train.loss": "kl",
    }
    return {**common, **PUBLISHED[model][1]}


def arms_of_published(model: str) -> dict[str, dict[str, Any]]:
    """Give the arms of a model, which score as many triples a positive, but for KBGAN, whose generator scores more."""
    s, o = PUBLISHED[model][0]
    # what LibKGE chooses for TransE by itself, `batch`, takes 20 times as long on a processor and gives the same; and
    # today's LibKGE takes -1 relations, as published, for as many as heads
    own = {
        **libkge(s, implementation="triple" if model == "transe" else "batch"),
        "negative_sampling.num_samples.p": 0,
        "negative_sampling.num_samples.o": o,
    }
    k = scored(own) - 1
    return {
        OWN: own,
        f"{OWN}, shared": {**own, "negative_sampling.implementation": "batch", "negative_sampling.shared": True},
        "shared": plugin("shared", k, chunk_size=64),
        "emu, own loss": plugin("emu", k // 2, base_kwargs={"chunk_size": 64}),
        "kbgan": plugin("kbgan", 16, num_candidates=64, chunk_size=64),
    }
