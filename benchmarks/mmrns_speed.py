"""What a step of MMRNS costs beside a step with uniform negatives: time of the processor, and memory.

The paper's size: batch 400, pool 1500, 20 negatives, dimension 200, TransE with the L1 distance, Adam; made-up features
of the paper's shapes, (4, 384) of text and (24, 383) of pictures; a graph whose batches have as many distinct relations
as those of DB15K. Each arm runs in a process of its own; processor time, since it hardly depends on what else the
machine does.

usage: python benchmarks/mmrns_speed.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.models import model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg.training import AdversarialTrainingLoop

ENTITIES, RELATIONS, BATCH, NEGATIVES, DIM = 12_842, 279, 400, 20, 200

CASE = (
    "TransE (L1), dimension 200, 12,842 entities, 279 relations with frequencies as 1 / rank^1.3 (83 distinct "
    "in a batch, as in DB15K), batch 400, pool 1500, 20 negatives, Adam, one thread, processor time."
)

ARMS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "uniform": ("basic", {}, ()),
    "structure": ("mmrns", {}, ()),
    "text": ("mmrns", {}, ("text",)),
    "text and pictures": ("mmrns", {}, ("text", "image")),
    "text and pictures, detached": ("mmrns", {"gradient": "detached"}, ("text", "image")),
    "text and pictures, pool 500": ("mmrns", {"pool_size": 500}, ("text", "image")),
}


def resident(name: str) -> int:
    """Read the kilobytes of memory which this process has (VmRSS), or had at the most (VmHWM); Linux only."""
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    assert found is not None
    return int(found[1])


def measure(arm: str, steps: int) -> dict[str, Any]:
    """Train for some steps after some to get warm."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    frequency = torch.arange(1, RELATIONS + 1).float() ** -1.3

    def graph(batches: int) -> CoreTriplesFactory:
        n = BATCH * batches
        ends = torch.randint(ENTITIES, (2, n), generator=generator)
        relations = frequency.multinomial(n, replacement=True, generator=generator)
        triples = torch.stack([ends[0], relations, ends[1]], dim=1)
        return CoreTriplesFactory(triples, num_entities=ENTITIES, num_relations=RELATIONS)

    sampler, kwargs, modalities = ARMS[arm]
    shapes = {"text": (4, 384), "image": (24, 383)}
    if modalities:
        values = {name: torch.randn(ENTITIES, *shapes[name], generator=generator) for name in modalities}
        kwargs = {**kwargs, "features": MultimodalFeatures(**values)}
        del values
    warm, timed = graph(2), graph(steps)
    model = model_resolver.make(
        "transe", {"embedding_dim": DIM, "scoring_fct_norm": 1, "random_seed": 0}, triples_factory=timed
    )
    loop = AdversarialTrainingLoop(
        model=model,
        triples_factory=timed,
        optimizer="adam",
        negative_sampler=sampler,
        negative_sampler_kwargs={"num_negs_per_pos": NEGATIVES, **kwargs},
        automatic_memory_optimization=False,
    )
    # the peak so far, which made the features, is forgotten
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    loop.train(warm, num_epochs=1, batch_size=BATCH, use_tqdm=False)
    start = time.process_time()
    loop.train(timed, num_epochs=1, batch_size=BATCH, use_tqdm=False)
    seconds = time.process_time() - start
    return dict(arm=arm, case=CASE, milliseconds=1000 * seconds / steps, megabytes=(resident("VmHWM") - before) / 1024)


def main(
    arm: Annotated[str | None, typer.Option(help="only this one, printed")] = None,
    steps: Annotated[int, typer.Option()] = 6,
    repeats: Annotated[int, typer.Option()] = 3,
    out: Annotated[Path, typer.Option()] = Path("docs/results/mmrns/speed.jsonl"),
) -> None:
    """Measure all arms in turns."""
    if arm is not None:
        print(json.dumps(measure(arm, steps)))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file:
        for _ in range(repeats):
            for name in ARMS:
                command = [sys.executable, __file__, "--arm", name, "--steps", str(steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                line = done.stdout.splitlines()[-1]
                print(line, file=file, flush=True)
                print(line)


if __name__ == "__main__":
    typer.run(main)
