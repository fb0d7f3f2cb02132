"""What is compared: for each loss, LibKGE's own negatives and others, with as many scored triples a positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["OWN", "arms_of_overhead", "arms_of_training", "scored"]

from jobs import TYPE

#: LibKGE's own job; its `auto` chooses between its implementations
OWN = "LibKGE uniform"


def libkge(k: int, **more: Any) -> dict[str, Any]:
    """Give the options of LibKGE's own job with ``k`` negatives, and the positive, for each of two slots."""
    sampling = {f"negative_sampling.{name}": value for name, value in more.items()}
    return {
        "train.type": "negative_sampling",
        "negative_sampling.num_samples.s": k,
        "negative_sampling.num_samples.o": k,
        **sampling,
    }


def plugin(sampler: str, num_samples: int, **args: Any) -> dict[str, Any]:
    """Give the options of the job of the plugin."""
    own = {"sampler": sampler, "num_samples": num_samples, "sampler_args": args}
    return {"train.type": TYPE, TYPE: own}


def scored(options: Mapping[str, Any]) -> int:
    """Count the triples which the model scores for each positive, itself included; LibKGE may leave repetitions out.

    EMU scores its negatives as they are, and mutated.
    """
    if options["train.type"] != TYPE:
        return 2 + sum(options[f"negative_sampling.num_samples.{slot}"] for slot in "so")
    own = options[TYPE]
    return 1 + own["num_samples"] * (2 if own["sampler"] == "emu" else 1)


def arms_of_overhead(k: int) -> dict[str, dict[str, Any]]:
    """Give arms which do the same with the same number of scored triples, all with the loss ``kl``.

    :param k: the number of LibKGE's negatives for each of two slots
    """
    return {
        "LibKGE uniform, triple": libkge(k, implementation="triple"),
        "LibKGE uniform, batch": libkge(k, implementation="batch"),
        "LibKGE uniform, shared": libkge(k, implementation="batch", shared=True),
        "basic": plugin("basic", 2 * k + 1),
        "shared, chunks of 1": plugin("shared", 2 * k + 1, chunk_size=1),
        "shared, batch": plugin("shared", 2 * k + 1, chunk_size=1 << 20),
    }


def arms_of_training(k: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Give arms for each loss: samplers differ, and scored triples do not, but for one which EMU has less.

    "emu" takes the loss of the comparison for its mutated negatives; "emu, own loss" is that of its paper.

    :param k: the number of LibKGE's negatives for each of two slots; margin ranking has one, as KBGAN's paper
    """
    many = {
        OWN: libkge(k),
        "shared": plugin("shared", 2 * k + 1, chunk_size=64),
        "emu": plugin("emu", k, objective="host", base_kwargs={"chunk_size": 64}),
    }
    own_loss = {"emu, own loss": plugin("emu", k, base_kwargs={"chunk_size": 64})}
    pairs = {OWN: libkge(1), "shared": plugin("shared", 3, chunk_size=64), "kbgan": plugin("kbgan", 3)}
    return {"kl": {**many, **own_loss}, "bce_self_adversarial": many, "margin_ranking": pairs}
