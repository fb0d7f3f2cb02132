"""Whether EMU at one dimension does what a baseline needs a larger dimension for (Takamoto et al., 2025).

Arms, all with the same negatives of the sampler ``shared`` (uniform, both sides, 128 positives share them), Adagrad on
the rows of a batch, the loop ``adversarial``, no filter, no inverse triples:

* ``ce``: the cross-entropy of the positive among its negatives;
* ``ce_l3``: the same with an L3 regulariser, for the baseline of the paper has one and its EMU has none;
* ``labels_only``, ``mixup``: the ablations of the authors' code;
* ``emu``: one mask for each negative of a chunk; ``emu_independent``: one for each pair, as in the paper.

``ce`` and ``emu`` are run with all dimensions, the others with the first one. Initialisation as in the authors' code:
uniform within 26 / dimension; no constraint of entities. TransE has the L1 distance. PyKEEN's RotatE has the L2 norm
over all components, where the authors' has the sum of moduli.

The regulariser is PyKEEN's ``powersum`` with p = 3: the mean over the rows of a batch of the sum over dimensions, where
the authors sum over the tables; frequent entities weigh more. Of complex numbers the modulus is taken (N3). Relations
of RotatE are phases and have none.

Each arm and dimension has its own learning rate, the best on the validation triples with seed 0; ``ce_l3`` has a grid
of weights besides. Then other seeds are run. Validation (filtered MRR, realistic ranks, both sides) is every few
epochs; the test results are those of the best of these epochs. Seconds are those of training, without validation;
they are not to be compared unless the machine does nothing else, cf. ``emu_time.py``. One JSON line a run is appended
to ``OUT/DATASET.jsonl``; what stands there is not run again. ``python benchmarks/emu_report.py`` writes the page.

usage: python benchmarks/emu_claim.py --dataset fb15k237 --epochs 50
       python benchmarks/emu_claim.py --dataset wn18rr --epochs 100 --models distmult,complex --arms ce,emu
"""

from __future__ import annotations

import itertools
import json
import time
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.evaluation import RankBasedMetricResults
from pykeen.pipeline import pipeline
from torch.nn.init import uniform_

from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.evaluation import FastRankBasedEvaluator
from result_lines import append, read

METRIC = "both.realistic.inverse_harmonic_mean_rank"

MODELS = ("distmult", "complex", "transe", "rotate")

#: the parameters of the sampler ``emu``; None: the sampler ``shared`` and the cross-entropy
ARMS: dict[str, dict[str, Any] | None] = {
    "ce": None,
    "ce_l3": None,
    "labels_only": dict(variant="labels_only"),
    "mixup": dict(variant="mixup"),
    "emu": dict(masks="shared"),
    "emu_independent": dict(masks="independent"),
}

#: the arms which are run with all dimensions
SCALED = ("ce", "emu")

CHUNK_SIZE = 128

SHOWN = ("model", "arm", "dim", "lr", "l3", "seed", "validation_mrr", "best_epoch", "test_mrr", "seconds")


class TimedEvaluator(FastRankBasedEvaluator):
    """Counts the seconds of evaluation."""

    seconds = 0.0

    def evaluate(self, *args: Any, **kwargs: Any) -> RankBasedMetricResults:
        """Evaluate, and count."""
        start = time.perf_counter()
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            TimedEvaluator.seconds += time.perf_counter() - start


def model_kwargs(model: str, dim: int, l3: float) -> dict[str, Any]:
    """Give the parameters of a model."""
    initializer = partial(uniform_, a=-26 / dim, b=26 / dim)
    regularizer = dict(regularizer="powersum", regularizer_kwargs=dict(weight=l3, p=3.0)) if l3 else {}
    common: dict[str, Any] = dict(embedding_dim=dim, entity_initializer=initializer)
    match model:
        case "distmult":
            of_entities = dict(entity_representations_kwargs=regularizer) if l3 else {}
            more = dict(entity_constrainer=None, relation_initializer=initializer, **of_entities)
        case "complex":
            more = dict(relation_initializer=initializer)
        case "transe":
            more = dict(scoring_fct_norm=1, entity_constrainer=None, relation_initializer=initializer)
        case "rotate":
            more = {}
        case _:
            raise ValueError(f"model={model!r} is none of {MODELS}.")
    return dict(regularizer=None) | common | more | regularizer


def sampler(arm: str, negatives: int) -> dict[str, Any]:
    """Give the sampler of an arm."""
    shared = dict(chunk_size=CHUNK_SIZE)
    options = ARMS[arm]
    if options is None:
        return dict(negative_sampler="shared", negative_sampler_kwargs=dict(num_negs_per_pos=negatives, **shared))
    options = dict(num_negs_per_pos=negatives, base="shared", base_kwargs=shared, **options)
    return dict(negative_sampler="emu", negative_sampler_kwargs=options)


def train(
    data: Any, *, model: str, arm: str, dim: int, lr: float, l3: float, seed: int, epochs: int, frequency: int, k: int
) -> dict[str, Any]:
    """Train one arm through PyKEEN's pipeline, and give its results."""
    TimedEvaluator.seconds = 0.0
    start = time.perf_counter()
    result = pipeline(
        dataset=data,
        model=model,
        model_kwargs=model_kwargs(model, dim, l3),
        loss="crossentropy",
        optimizer="sparseadagrad",
        optimizer_kwargs=dict(lr=lr),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False),
        training_kwargs=dict(num_epochs=epochs, batch_size=1000, use_tqdm=False),
        stopper="early",
        stopper_kwargs=dict(
            frequency=frequency,
            patience=epochs // frequency + 1,
            relative_delta=0.0,
            metric=METRIC,
            evaluation_batch_size=256,
        ),
        evaluator=TimedEvaluator,
        evaluation_kwargs=dict(use_tqdm=False, batch_size=256),
        evaluation_fallback=False,
        random_seed=seed,
        device="cpu",
        **sampler(arm, k),
    )
    seconds = time.perf_counter() - start - TimedEvaluator.seconds
    values = [float(value) for value in result.stopper.results]
    validation = {frequency * (i + 1): value for i, value in enumerate(values)}
    return dict(
        validation_mrr=max(values),
        best_epoch=max(validation, key=lambda epoch: validation[epoch]),
        validation=validation,
        test_mrr=float(result.metric_results.get_metric(METRIC)),
        test_hits_at_10=float(result.metric_results.get_metric("both.realistic.hits_at_10")),
        losses=[round(loss, 6) for loss in result.losses],
        seconds=seconds,
    )


def main(
    dataset: Annotated[str, typer.Option(help="fb15k237 or wn18rr")] = "fb15k237",
    models: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(MODELS),
    arms: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(ARMS),
    dims: Annotated[str, typer.Option(help="dimensions; the first one is that of all arms")] = "100,500",
    epochs: Annotated[int, typer.Option(help="epochs of each run")] = 50,
    frequency: Annotated[int, typer.Option(help="epochs from one validation to the next")] = 5,
    negatives: Annotated[int, typer.Option(help="negatives of each positive")] = 256,
    seeds: Annotated[int, typer.Option(help="number of seeds")] = 3,
    rates: Annotated[str, typer.Option(help="learning rates")] = "0.03,0.1,0.3",
    weights: Annotated[str, typer.Option(help="weights of the L3 regulariser")] = "0.001,0.01,0.1",
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/emu"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    data = load_dataset(dataset)
    file = out / f"{dataset}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    lines = read(file)
    fixed = dict(epochs=epochs, frequency=frequency, k=negatives)

    def run(**setting: Any) -> dict[str, Any]:
        setting |= fixed
        for line in lines:
            if all(line[key] == value for key, value in setting.items()):
                return line
        line = dict(
            dataset=dataset,
            **setting,
            **train(data, **setting),
            threads=threads,
            finished=date.today().isoformat(),
            versions={package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")},
        )
        line = json.loads(json.dumps(line))
        lines.append(line)
        append(file, line)
        print({key: line[key] for key in SHOWN}, flush=True)
        return line

    def tune(model: str, arm: str, dim: int) -> dict[str, Any]:
        """Find the best learning rate, and the best weight of the regulariser if there is one, with the first seed."""
        grid = itertools.product(rates.split(","), weights.split(",") if arm == "ce_l3" else "0")
        tuned = [run(model=model, arm=arm, dim=dim, seed=0, lr=float(lr), l3=float(weight)) for lr, weight in grid]
        best = max(tuned, key=_validation)
        return dict(model=model, arm=arm, dim=dim, lr=best["lr"], l3=best["l3"])

    sizes = [int(dim) for dim in dims.split(",")]
    for model in models.split(","):
        for arm in arms.split(","):
            for dim in sizes if arm in SCALED else sizes[:1]:
                chosen = tune(model, arm, dim)
                for seed in range(1, seeds):
                    run(seed=seed, **chosen)


def _validation(line: dict[str, Any]) -> float:
    return float(line["validation_mrr"])


if __name__ == "__main__":
    typer.run(main)
