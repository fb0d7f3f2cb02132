"""A batch of a few random draws before a study, to find out what fails in each trial."""

from __future__ import annotations

from typing import Any

import optuna
from pykeen.pipeline import pipeline

from ..errors import ConfigurationError
from .objective import SamplerObjective

__all__ = ["dry_run"]

#: what has been drawn of a space and failed each time works nowhere
DRAWS = 3


def dry_run(objective: SamplerObjective) -> None:
    """Train one batch of a few random draws, to find out before a study what fails in each trial.

    :param objective: the objective

    :raises ConfigurationError: if data are missing, or if each draw fails
    """
    data = objective.data()
    if data.validation is None:
        raise ConfigurationError("The data set has no validation triples, on which trials are compared; give some.")
    space = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    failure: Exception | None = None
    for _ in range(DRAWS):
        try:
            _train_a_batch(objective, space.ask(), data)
        except Exception as error:  # whatever a part refuses by
            failure = failure or error
        else:
            return
    assert failure is not None
    sampler = "" if objective.negative_sampler is None else f" of sampler {objective.negative_sampler.__name__}"
    raise ConfigurationError(
        f"Each of {DRAWS} random draws{sampler} fails in its first batch: "
        f"{' '.join(f'{type(failure).__name__}: {failure}'.split())}"
    ) from failure


def _train_a_batch(objective: SamplerObjective, trial: optuna.Trial, data: Any) -> None:
    arguments = objective.arguments(trial)
    training = arguments["training_kwargs"]
    few = data.training.clone_and_exchange_triples(data.training.mapped_triples[: training.get("batch_size") or 256])
    evaluated = data.validation.clone_and_exchange_triples(data.validation.mapped_triples[:1])
    kept = {key: value for key, value in training.items() if not key.startswith("callbacks")}
    arguments |= {
        "training_kwargs": {**kept, "num_epochs": 1, "use_tqdm": False},
        "stopper": None,
        "stopper_kwargs": None,
    }
    loop_kwargs = dict(arguments["training_loop_kwargs"])
    if loop_kwargs.get("pretraining_epochs"):
        loop_kwargs["pretraining_epochs"] = 0
    pipeline(
        **{**arguments, "training_loop_kwargs": loop_kwargs},
        training=few,
        testing=evaluated,
        validation=evaluated,
        random_seed=0,
        use_testing_data=False,
    )
