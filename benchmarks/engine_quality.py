"""Whether the engine trains as well as PyKEEN's loop: the same model, loss, number of negatives and epochs.

Arms for each data set and model:

* ``stock``: PyKEEN's loop ``slcwa`` on the negatives of ``basic``, Adagrad;
* ``engine``: the loop ``adversarial`` on negatives which 128 positives share, Adagrad on the rows of a batch;
* ``engine-N``: the same on negatives which N positives share; ``engine-1`` does not share;
* ``engine-row-wise``: as ``engine`` with one step size for each row, which is another optimizer.

Cross-entropy, no regularizer, batches of 1,024. Each arm has its own learning rate, the best of the same ones on the
validation triples (seed 0, filtered MRR, realistic rank, all entities, both sides); then three seeds are run with it.
Test metrics are those after the last epoch. One JSON line a run is appended to ``OUT/DATASET.jsonl``; what stands there
is not run again.

usage: python benchmarks/engine_quality.py --dataset fb15k237 --epochs 5
       python benchmarks/engine_quality.py --dataset wn18rr --epochs 10
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.pipeline import pipeline

from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.evaluation import FastRankBasedEvaluator
from result_lines import append, read

METRIC = "both.realistic.inverse_harmonic_mean_rank"

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "distmult": ("distmult", dict(regularizer=None)),
    "transe": ("transe", dict(scoring_fct_norm=1)),
    "complex": ("complex", dict(regularizer=None)),
}

ENGINE = dict(training_loop="adversarial", negative_sampler="shared")

ARMS: dict[str, dict[str, Any]] = {
    "stock": dict(training_loop="slcwa", negative_sampler="basic", optimizer="adagrad"),
    "engine": dict(ENGINE, optimizer="sparseadagrad"),
    **{
        f"engine-{size}": dict(ENGINE, optimizer="sparseadagrad", negative_sampler_kwargs=dict(chunk_size=size))
        for size in (1, 4, 8, 16, 32, 64)
    },
    "engine-row-wise": dict(ENGINE, optimizer="rowadagrad"),
}

SHOWN = ("model", "arm", "lr", "seed", "validation_mrr", "test_mrr", "seconds")


def train(data: Any, model: str, arm: str, lr: float, epochs: int, dim: int, negatives: int, seed: int) -> Any:
    """Train one arm through PyKEEN's pipeline."""
    name, model_kwargs = MODELS[model]
    settings = dict(ARMS[arm])
    sampler_kwargs = dict(num_negs_per_pos=negatives, **settings.pop("negative_sampler_kwargs", {}))
    return pipeline(
        dataset=data,
        model=name,
        model_kwargs=dict(embedding_dim=dim, **model_kwargs),
        loss="crossentropy",
        optimizer_kwargs=dict(lr=lr),
        training_loop_kwargs=dict(automatic_memory_optimization=False),
        training_kwargs=dict(num_epochs=epochs, batch_size=1024, use_tqdm=False),
        evaluator="fastrankbased",
        evaluation_kwargs=dict(use_tqdm=False),
        evaluation_fallback=False,
        random_seed=seed,
        negative_sampler_kwargs=sampler_kwargs,
        **settings,
    )


def validate(result: Any, data: Any) -> float:
    """Compute the filtered MRR on the validation triples."""
    metrics = FastRankBasedEvaluator().evaluate(
        model=result.model,
        mapped_triples=data.validation.mapped_triples,
        additional_filter_triples=[data.training.mapped_triples],
        use_tqdm=False,
    )
    return float(metrics.get_metric(METRIC))


def main(
    dataset: Annotated[str, typer.Option(help="fb15k237 or wn18rr")] = "fb15k237",
    arms: Annotated[
        str, typer.Option(help="names, with commas between them")
    ] = "stock,engine,engine-16,engine-row-wise",
    models: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(MODELS),
    epochs: Annotated[int, typer.Option(help="epochs of each run")] = 5,
    dim: Annotated[int, typer.Option(help="dimensions")] = 64,
    negatives: Annotated[int, typer.Option(help="negatives of each positive")] = 16,
    rates: Annotated[str, typer.Option(help="learning rates, with commas between them")] = "0.03,0.1,0.3",
    seeds: Annotated[int, typer.Option(help="number of seeds")] = 3,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/engine"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    data = load_dataset(dataset)
    file = out / f"{dataset}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    lines = read(file)

    def run(**setting: Any) -> dict[str, Any]:
        for line in lines:
            if all(line[key] == value for key, value in setting.items()):
                return line
        start = time.perf_counter()
        result = train(data, **setting)
        seconds = time.perf_counter() - start
        line = dict(
            dataset=dataset,
            **setting,
            validation_mrr=validate(result, data),
            test_mrr=float(result.metric_results.get_metric(METRIC)),
            test_hits_at_10=float(result.metric_results.get_metric("both.realistic.hits_at_10")),
            loss=result.losses[-1],
            seconds=seconds,
            threads=threads,
            versions={package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")},
        )
        lines.append(line)
        append(file, line)
        print({key: line[key] for key in SHOWN}, flush=True)
        return line

    fixed = dict(epochs=epochs, dim=dim, negatives=negatives)
    tried = [float(rate) for rate in rates.split(",")]
    for model in models.split(","):
        best = {
            arm: max((run(model=model, arm=arm, lr=lr, seed=0, **fixed) for lr in tried), key=_validation)["lr"]
            for arm in arms.split(",")
        }
        for seed in range(1, seeds):
            for arm, lr in best.items():
                run(model=model, arm=arm, lr=lr, seed=seed, **fixed)


def _validation(line: dict[str, Any]) -> float:
    return float(line["validation_mrr"])


if __name__ == "__main__":
    typer.run(main)
