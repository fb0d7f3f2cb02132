"""Seconds of a step with DANS beside one with as many uniform negatives: 20 of each positive, batches of 1,000.

The models are those of ``benchmarks/dans_claim.py``. Both are trained in turns in one process, and the least CPU
time of a step over the turns counts, on which other processes have little influence. What the loop does once a training
is shared by ``steps`` steps or more.

usage: python benchmarks/dans_cost.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.training import AdversarialTrainingLoop

# the folder is no package
sys.path.append(str(Path(__file__).parent))
from dans_claim import LOSS, NUM_NEGATIVES, make_model

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("basic", dict(num_negs_per_pos=NUM_NEGATIVES)),
    "dans": ("dans", {}),
}

BATCH_SIZE = 1000


def make_loop(training: CoreTriplesFactory, encoder: str, arm: str) -> AdversarialTrainingLoop:
    """Make the loop of an arm."""
    torch.manual_seed(0)
    sampler, kwargs = ARMS[arm]
    return AdversarialTrainingLoop(
        model=make_model(encoder, "distmult", training, 100, 0.0, LOSS),
        triples_factory=training,
        optimizer="adam",
        optimizer_kwargs=dict(lr=0.01),
        negative_sampler=sampler,
        negative_sampler_kwargs=kwargs,
        automatic_memory_optimization=False,
    )


def main(
    settings: Annotated[str, typer.Option(help="DATASET:ENCODER, with commas between them")] = (
        "umls:rgcn,umls:none,wn18rr:none"
    ),
    steps: Annotated[int, typer.Option(help="steps of a turn")] = 40,
    turns: Annotated[int, typer.Option(help="turns of each arm")] = 3,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
) -> None:
    """Print a row for each setting."""
    torch.set_num_threads(threads)
    for setting in settings.split(","):
        dataset, encoder = setting.split(":")
        whole = load_dataset(dataset, vocabulary="all").training
        torch.manual_seed(0)
        chosen = torch.randperm(whole.num_triples)[: steps * BATCH_SIZE]
        training = CoreTriplesFactory.create(
            whole.mapped_triples[chosen], num_entities=whole.num_entities, num_relations=whole.num_relations
        )
        batches = -(-training.num_triples // BATCH_SIZE)
        epochs = -(-steps // batches)
        loops = {arm: make_loop(training, encoder, arm) for arm in ARMS}
        best = dict.fromkeys(ARMS, float("inf"))
        for _ in range(turns + 1):
            # the first turn is the warm-up of everything, and is beaten by the others
            for arm, loop in loops.items():
                start = time.process_time()
                loop.train(training, num_epochs=epochs, batch_size=BATCH_SIZE, use_tqdm=False)
                best[arm] = min(best[arm], (time.process_time() - start) / (epochs * batches))
        shown = ", ".join(f"{arm} {1000 * seconds:.0f} ms" for arm, seconds in best.items())
        print(f"{setting}: {shown}, ratio {best['dans'] / best['uniform']:.1f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
