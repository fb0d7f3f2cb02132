"""What attributes cost: processor time of a training step of MKBE on MovieLens-100K, with more and more attributes.

Arms are measured in turns, in one process and one thread; processor time does not count what other processes do. One
JSON line an arm is appended to ``OUT/cost.jsonl``.

usage: python benchmarks/mkbe_cost.py --out runs --batch-size 1024
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.training import TrainingCallback

from pykeen_advneg.multimodal.datasets import MovieLens100K
from pykeen_advneg.multimodal.mkbe import MKBE
from pykeen_advneg.training import AdversarialTrainingLoop
from result_lines import append

SIDE = ("age", "gender", "occupation", "zip", "release_date", "genre")
#: attributes, and how titles are read
ARMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "ratings": ((), {}),
    "and numbers, categories, genres": (SIDE, {}),
    "and titles": ((*SIDE, "title"), {}),
    "and titles, 30 characters": ((*SIDE, "title"), {"encoders_kwargs": {"title": {"max_length": 30}}}),
    "and titles, by words": ((*SIDE, "title"), {"encoders": {"title": "wordcnn"}}),
    "and titles, latent semantics": ((*SIDE, "title"), {"encoders": {"title": "sentence"}}),
}


class Steps(TrainingCallback):
    """Notes the processor time at the end of each batch."""

    def __init__(self) -> None:
        """Initialize the callback."""
        super().__init__()
        self.times: list[float] = []

    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.times.append(time.process_time())


def measure(
    attributes: tuple[str, ...], kwargs: dict[str, Any], dim: int, batch_size: int, negatives: int
) -> list[float]:
    """Train an epoch, and give the time of each step but the first ones."""
    data = MovieLens100K(attributes=attributes)
    model = MKBE(triples_factory=data.training, embedding_dim=dim, random_seed=0, **kwargs)
    loop = AdversarialTrainingLoop(
        model=model,
        triples_factory=data.training,
        optimizer="adam",
        negative_sampler="attributetyped",
        negative_sampler_kwargs={"num_negs_per_pos": negatives, "relation_groups": [[0, 1, 2, 3, 4]]},
        automatic_memory_optimization=False,
    )
    steps = Steps()
    loop.train(data.training, num_epochs=1, batch_size=batch_size, use_tqdm=False, callbacks=steps)
    return [after - before for before, after in zip(steps.times[5:-1], steps.times[6:], strict=True)]


def main(
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    repeats: Annotated[int, typer.Option(help="How many turns.")] = 2,
    dim: Annotated[int, typer.Option(help="The embedding dimension.")] = 128,
    batch_size: Annotated[int, typer.Option(help="The number of positives in a batch.")] = 512,
    negatives: Annotated[int, typer.Option(help="Negatives for each positive.")] = 8,
) -> None:
    """Measure, and write medians."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for _ in range(repeats):
        for name, (attributes, kwargs) in ARMS.items():
            times[name] += measure(attributes, kwargs, dim, batch_size, negatives)
    base = statistics.median(times["ratings"])
    out.mkdir(parents=True, exist_ok=True)
    settings = {"dim": dim, "batch_size": batch_size, "negatives": negatives}
    lines = [
        {"arm": name, **settings, "milliseconds": 1000 * statistics.median(x), "times": statistics.median(x) / base}
        for name, x in times.items()
    ]
    append(out / "cost.jsonl", *lines)


if __name__ == "__main__":
    typer.run(main)
