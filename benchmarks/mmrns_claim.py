"""MMRNS's claim, measured: negatives by similarity, with and without text, against uniform ones, at the same budget.

All arms have the same model, dimension, batches, number of negatives, epochs and learning rates to choose from; the one
with the best validation MRR at the first seed is kept for the others. Known training triples are never negatives, in
any arm. Ids are built from all splits, so that no evaluation triple is dropped; test metrics are filtered, realistic
rank, all entities, both sides, of the best epoch on the validation triples.

A data set is a folder with ``train``, ``valid`` and ``test`` (cf. ``pykeen_advneg.datasets``) or a name of PyKEEN's.
The usual validation triples of DB15K are in its training triples, or in the test triples, all but 73:
``--carve 0.05`` leaves them out, and takes a share of the training triples instead (which then are no training triples
any more).

Features are a file which ``MultimodalFeatures.save`` wrote, or a table of texts (entity, name, text; ``.tsv.xz``),
which are then encoded and saved in ``--work``. One JSON line a run is appended to ``OUT/NAME.jsonl``; what stands there
is not run again.

usage: python benchmarks/mmrns_claim.py --dataset db15k --features DB15K/entity2text.tsv.xz
       python benchmarks/mmrns_claim.py --dataset DB15K --carve 0.05 --features DB15K/entity2text.tsv.xz
       python benchmarks/mmrns_claim.py --dataset wn18rr --features WN18RR/entity2text.tsv.xz --models transe,distmult
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker

from pykeen_advneg.datasets import LabeledSplits, read_splits
from pykeen_advneg.multimodal import MultimodalFeatures, text_features
from result_lines import append, read

METRIC = "both.realistic.inverse_harmonic_mean_rank"

#: model -> its keyword-based parameters without the dimension, margin of the loss
MODELS: Mapping[str, tuple[dict[str, Any], float]] = {
    "transe": (dict(scoring_fct_norm=1, entity_constrainer=None), 6.0),
    "rotate": (dict(), 6.0),
    "distmult": (dict(entity_constrainer=None, regularizer=None), 0.0),
}

TEXT = ("text",)

#: arm -> temperature of the self-adversarial weights, sampler, its keyword-based parameters, which features it gets
ARMS: Mapping[str, tuple[float, str, dict[str, Any], tuple[str, ...]]] = {
    # not 0, which times minus infinity, the score of a masked negative, is no number in `nssa`
    "uniform": (1e-9, "basic", dict(filtered=True, filterer="exact"), ()),
    "self-adversarial": (0.5, "basic", dict(filtered=True, filterer="exact"), ()),
    # what sharing a pool does by itself
    "uniform from the pool": (
        0.5,
        "mmrns",
        dict(exploration=1e6, exploration_schedule="constant", gradient="detached", contrast_weight=0.0),
        (),
    ),
    "mmrns, no features": (0.5, "mmrns", dict(), ()),
    "mmrns, text": (0.5, "mmrns", dict(), TEXT),
    "mmrns, pictures": (0.5, "mmrns", dict(), ("image",)),
    "mmrns, text and pictures": (0.5, "mmrns", dict(), ("text", "image")),
    "mmrns, text and pictures, sharp": (
        0.5,
        "mmrns",
        dict(exploration_schedule="geometric"),
        ("text", "image"),
    ),
    "mmrns, text, released weights": (0.5, "mmrns", dict(variant="released"), TEXT),
    "mmrns, text, detached": (0.5, "mmrns", dict(gradient="detached"), TEXT),
    "mmrns, no features, sharp": (0.5, "mmrns", dict(exploration_schedule="geometric"), ()),
    "mmrns, text, sharp": (0.5, "mmrns", dict(exploration_schedule="geometric"), TEXT),
    **{f"mmrns, text, beta {beta}": (0.5, "mmrns", dict(contrast_weight=beta), TEXT) for beta in (0.0, 0.1, 1.0)},
    **{
        f"mmrns, text, exploration {factor}": (
            0.5,
            "mmrns",
            dict(exploration=factor, exploration_schedule="constant"),
            TEXT,
        )
        for factor in (1.0, 0.2, 0.05)
    },
}

MAIN = ("uniform", "self-adversarial", "mmrns, no features", "mmrns, text")


def carve(splits: LabeledSplits, share: float) -> LabeledSplits:
    """Take validation triples from the training triples; those which are test triples as well stay out of both."""
    test = set(map(tuple, splits.testing.tolist()))
    training = np.array([t for t in splits.training.tolist() if tuple(t) not in test])
    chosen = np.random.default_rng(0).permutation(len(training)) < round(share * len(training))
    return replace(splits, training=training[~chosen], validation=training[chosen])


def load_features(path: Path, work: Path) -> MultimodalFeatures:
    """Load features, or encode a table of texts."""
    if path.suffix == ".safetensors":
        return MultimodalFeatures.load(path)
    saved = work / f"{path.parent.name}.safetensors"
    if not saved.is_file():
        with lzma.open(path, "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        text_features({row[0]: row[min(2, len(row) - 1)] for row in rows}).save(saved)
    return MultimodalFeatures.load(saved)


def find_run(lines: Sequence[dict[str, Any]], key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the run which has all that tells runs apart: arm, budget, data set, share of carved validation triples."""
    return next((line for line in lines if all(k in line and line[k] == v for k, v in key.items())), None)


def train(dataset: Any, model: str, arm: str, lr: float, seed: int, budget: Mapping[str, Any], features: Any) -> Any:
    """Train one arm, and collect what the result file keeps."""
    kwargs, margin = MODELS[model]
    temperature, sampler, sampler_kwargs, modalities = ARMS[arm]
    steps = budget["epochs"] * -(-dataset.training.num_triples // budget["batch_size"])
    own = dict(sampler_kwargs, num_negs_per_pos=budget["negatives"])
    if sampler == "mmrns":
        own |= dict(pool_size=budget["pool"], adversarial_temperature=temperature, exploration_steps=steps // 2)
        # the learning rate of the network which is the default of the authors' code; training is short here
        own |= dict(optimizer_kwargs=dict(lr=1e-3))
        own |= dict(features=features.only(*modalities)) if modalities else {}
    tracker = PythonResultTracker(store_metrics=True)
    start = time.perf_counter()
    result = pipeline(
        dataset=dataset,
        model=model,
        model_kwargs=dict(kwargs, embedding_dim=budget["dim"] // (2 if model == "rotate" else 1)),
        loss="nssa",
        loss_kwargs=dict(margin=margin, adversarial_temperature=temperature),
        optimizer="adam",
        optimizer_kwargs=dict(lr=lr),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False),
        negative_sampler=sampler,
        negative_sampler_kwargs=own,
        training_kwargs=dict(num_epochs=budget["epochs"], batch_size=budget["batch_size"], use_tqdm=False),
        stopper="early",
        stopper_kwargs=dict(
            frequency=budget["every"], patience=10**6, relative_delta=0.0, metric=METRIC, evaluation_batch_size=256
        ),
        evaluator="fastrankbased",
        evaluation_kwargs=dict(use_tqdm=False),
        result_tracker=tracker,
        random_seed=seed,
    )
    stopper: Any = result.stopper
    names = {"mrr": "inverse_harmonic_mean_rank"} | {f"hits_at_{k}": f"hits_at_{k}" for k in (1, 3, 10)}
    last = tracker.metrics.get(budget["epochs"], {})
    return dict(
        model=model,
        arm=arm,
        lr=lr,
        seed=seed,
        **budget,
        validation=stopper.results,
        best_epoch=stopper.best_epoch,
        test={name: result.metric_results.get_metric(f"both.realistic.{key}") for name, key in names.items()},
        sampler={k.removeprefix("sampler."): v for k, v in last.items() if k.startswith("sampler.")},
        seconds=round(time.perf_counter() - start, 1),
        versions={package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")},
        finished=time.strftime("%Y-%m-%d"),
    )


def main(
    dataset: Annotated[str, typer.Option(help="a folder, or a name of PyKEEN's")],
    features: Annotated[Path, typer.Option(help="features, or a table of texts")],
    models: Annotated[str, typer.Option(help="some of transe, rotate, distmult")] = "transe,rotate,distmult",
    arms: Annotated[str, typer.Option(help="'main', 'all', or names separated by semicolons")] = "main",
    carve_share: Annotated[float, typer.Option("--carve", help="share of training for validation; 0: as it is")] = 0.0,
    lrs: Annotated[str, typer.Option(help="learning rates to choose from")] = "0.003,0.01",
    epochs: Annotated[int, typer.Option()] = 10,
    every: Annotated[int, typer.Option(help="epochs between two validations")] = 5,
    batch_size: Annotated[int, typer.Option()] = 1024,
    negatives: Annotated[int, typer.Option()] = 20,
    pool: Annotated[int, typer.Option(help="candidates of a step")] = 300,
    dim: Annotated[int, typer.Option(help="real numbers of an entity")] = 64,
    seeds: Annotated[int, typer.Option()] = 3,
    threads: Annotated[int, typer.Option()] = 1,
    work: Annotated[Path, typer.Option(help="folder of encoded features")] = Path("build/mmrns_claim"),
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/mmrns"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    splits = read_splits(dataset)
    data = (carve(splits, carve_share) if carve_share else splits).to_dataset("all")
    own = load_features(features, work)
    name = Path(dataset).name.lower().replace("-", "")
    file = out / f"{name}.jsonl"
    chosen = {"main": MAIN, "all": tuple(ARMS)}.get(arms, tuple(arm.strip() for arm in arms.split(";")))
    budget = dict(epochs=epochs, every=every, batch_size=batch_size, negatives=negatives, pool=pool, dim=dim)
    lines = read(file)

    def run(model: str, arm: str, lr: float, seed: int) -> dict[str, Any]:
        key = dict(budget, model=model, arm=arm, lr=lr, seed=seed, dataset=name, carved=carve_share)
        done = find_run(lines, key)
        if done is not None:
            return done
        line = train(data, model, arm, lr, seed, budget, own)
        line |= dict(dataset=name, carved=carve_share, coverage=own.coverage())
        append(file, line)
        print(
            f"{name} {model} {arm} lr {lr} seed {seed}: test {line['test']['mrr']:.4f}, {line['seconds']} s", flush=True
        )
        return line

    rates = [float(lr) for lr in lrs.split(",")]
    for model in models.split(","):
        best = {}
        for arm in chosen:
            tried = {lr: max(run(model, arm, lr, 0)["validation"]) for lr in rates}
            best[arm] = max(tried, key=lambda lr: tried[lr])
        for seed in range(1, seeds):
            for arm in chosen:
                run(model, arm, best[arm], seed)


if __name__ == "__main__":
    typer.run(main)
