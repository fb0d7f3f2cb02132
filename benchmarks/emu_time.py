"""How long a step of each arm of ``emu_claim.py`` takes beside one of the cross-entropy, in turns in one process.

Processor time of a batch of FB15k-237, the mean of a few, on one thread; one JSON line for each arm, dimension and
round goes to ``OUT/time.jsonl``, in which all of a model comes from one process: what was there of it is replaced.

usage: python benchmarks/emu_time.py --models distmult,complex
"""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from class_resolver.contrib.torch import optimizer_resolver
from pykeen.models import model_resolver
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory

from emu_claim import ARMS, MODELS, model_kwargs, sampler
from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.training import AdversarialTrainingLoop

#: the L3 regulariser of the arm which has one
WEIGHT = 0.01


class Clock(TrainingCallback):
    """Notes the processor time after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.times.append(time.process_time())


def trainer(factory: CoreTriplesFactory, model: str, arm: str, dim: int, negatives: int) -> Any:
    """Give a function which trains for an epoch, and says how long a batch took."""
    kwargs = model_kwargs(model, dim, WEIGHT if arm == "ce_l3" else 0.0)
    instance = model_resolver.make(model, kwargs, triples_factory=factory, random_seed=0, loss="crossentropy")
    optimizer = optimizer_resolver.make("sparseadagrad", dict(lr=0.1), params=instance.get_grad_params())
    loop = AdversarialTrainingLoop(
        model=instance,
        triples_factory=factory,
        optimizer=optimizer,
        automatic_memory_optimization=False,
        **sampler(arm, negatives),
    )

    def epoch() -> float:
        clock = Clock()
        loop.train(factory, 1, batch_size=1000, use_tqdm=False, callbacks=clock)
        return (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1)

    return epoch


def main(
    models: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(MODELS),
    arms: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(ARMS),
    dim: Annotated[int, typer.Option(help="the dimension")] = 100,
    large: Annotated[int, typer.Option(help="another dimension of the cross-entropy")] = 500,
    batches: Annotated[int, typer.Option(help="batches of a round")] = 20,
    rounds: Annotated[int, typer.Option(help="rounds")] = 5,
    negatives: Annotated[int, typer.Option(help="negatives of each positive")] = 256,
    out: Annotated[Path, typer.Option(help="folder of the result file")] = Path("docs/results/emu"),
) -> None:
    """Time all arms in turns."""
    torch.set_num_threads(1)
    training: Any = load_dataset("fb15k237").training
    order = torch.randperm(len(training.mapped_triples), generator=torch.Generator().manual_seed(0))
    factory = training.clone_and_exchange_triples(training.mapped_triples[order[: 1000 * batches]])
    file = out / "time.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    for model in models.split(","):
        timed = [(arm, dim) for arm in arms.split(",")] + [("ce", large)]
        trainers = {key: trainer(factory, model, key[0], key[1], negatives) for key in timed}
        for epoch in trainers.values():
            epoch()  # to warm up
        known = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        lines = [line for line in known if json.loads(line)["model"] != model]
        stamp = dict(dataset="fb15k237", k=negatives, finished=date.today().isoformat(), torch=torch.__version__)
        for number in range(rounds):
            for (arm, size), epoch in trainers.items():
                line = dict(model=model, arm=arm, dim=size, round=number, cpu=epoch(), **stamp)
                lines.append(json.dumps(line))
                print(line, flush=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
