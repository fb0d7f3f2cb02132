"""The same training with LibKGE and with PyKEEN."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jobs import METRIC, STD, TYPE, embeddings, libkge_job

__all__ = ["FRAMEWORKS", "TASKS"]

#: epochs and validation MRR
Curve = Iterator[tuple[int, float]]

#: the sampler, the loss of LibKGE and of PyKEEN, which are the same, and the number of negatives
TASKS: Mapping[str, Mapping[str, Any]] = {
    "kbgan": dict(
        sampler="kbgan", kwargs={}, k=1, libkge=("margin_ranking", 1.0), pykeen=("marginranking", dict(margin=1.0)),
    ),
    "emu": dict(
        sampler="emu", kwargs=dict(base_kwargs=dict(chunk_size=64)), k=32, libkge=("kl", None),
        pykeen=("crossentropy", {}),
    ),
    "nssa": dict(
        sampler="shared", kwargs=dict(chunk_size=64), k=32, libkge=("bce_self_adversarial", 3.0),
        pykeen=("nssa", dict(margin=3.0, adversarial_temperature=1.0)),
    ),
}  # fmt: skip


def initial(x: torch.Tensor) -> torch.Tensor:
    """Initialise embeddings as LibKGE is told to do, both parts of complex numbers alike."""
    torch.nn.init.normal_(torch.view_as_real(x) if x.is_complex() else x, std=STD)
    return x


def curve_of_libkge(dataset: str, model: str, task: str, seed: int, settings: Mapping[str, Any]) -> Curve:
    """Train in LibKGE; yields epochs and validation MRR."""
    chosen = TASKS[task]
    loss, argument = chosen["libkge"]
    options = {
        "model": model,
        "random_seed.default": seed,
        "train.type": TYPE,
        "train.loss": loss,
        "train.batch_size": settings["batch_size"],
        "train.max_epochs": settings["epochs"],
        "train.optimizer.default.type": "Adam",
        "train.optimizer.default.args.lr": settings["lr"],
        "train.checkpoint.every": 0,
        "valid.every": settings["every"],
        "valid.metric": METRIC,
        **embeddings(settings["dim"]),
        TYPE: {"sampler": chosen["sampler"], "num_samples": chosen["k"], "sampler_args": dict(chosen["kwargs"])},
    }
    if argument is not None:
        options["train.loss_arg"] = argument
    if model == "transe":
        options["transe.l_norm"] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        job = libkge_job(Path(folder) / "job", dataset, options)
        job.run()
    for entry in job.valid_trace:
        yield entry["epoch"], entry[METRIC]


def curve_of_pykeen(dataset: str, model: str, task: str, seed: int, settings: Mapping[str, Any]) -> Curve:
    """Train in PyKEEN, with the same model, loss, optimizer and sampler; yields epochs and validation MRR."""
    from pykeen.datasets import get_dataset
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.losses import loss_resolver
    from pykeen.models import model_resolver
    from pykeen.training.callbacks import TrainingCallback
    from pykeen.utils import set_random_seed

    from pykeen_advneg.training import AdversarialTrainingLoop

    class Validation(TrainingCallback):
        """Validates every so many epochs."""

        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[int, float]] = []

        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            if epoch % settings["every"]:
                return
            self.model.eval()
            results = RankBasedEvaluator(filtered=True).evaluate(
                self.model, data.validation.mapped_triples, use_tqdm=False, batch_size=256,
                additional_filter_triples=[data.training.mapped_triples],
            )  # fmt: skip
            self.model.train()
            self.found.append((epoch, results.get_metric("both.realistic.inverse_harmonic_mean_rank")))

    chosen = TASKS[task]
    name, arguments = chosen["pykeen"]
    data = get_dataset(dataset=dataset)
    set_random_seed(seed)
    kwargs: dict[str, Any] = dict(entity_initializer=initial, relation_initializer=initial)
    if model == "transe":
        # LibKGE constrains nothing
        kwargs |= dict(
            embedding_dim=settings["dim"], scoring_fct_norm=1, entity_constrainer=None, relation_constrainer=None
        )
    else:
        # complex numbers, of which LibKGE counts both parts
        kwargs |= dict(embedding_dim=settings["dim"] // 2, regularizer=None)
    instance = model_resolver.make(
        model, kwargs, triples_factory=data.training, random_seed=seed, loss=loss_resolver.make(name, arguments)
    )
    loop = AdversarialTrainingLoop(
        model=instance,
        triples_factory=data.training,
        optimizer=torch.optim.Adam(instance.get_grad_params(), lr=settings["lr"]),
        negative_sampler=chosen["sampler"],
        negative_sampler_kwargs=dict(num_negs_per_pos=chosen["k"], **chosen["kwargs"]),
    )
    validation = Validation()
    loop.train(
        data.training, settings["epochs"], batch_size=settings["batch_size"], callbacks=validation, use_tqdm=False,
        use_tqdm_batch=False,
    )  # fmt: skip
    yield from validation.found


FRAMEWORKS = {"LibKGE": curve_of_libkge, "PyKEEN": curve_of_pykeen}
