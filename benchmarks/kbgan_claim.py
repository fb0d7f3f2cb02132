"""KBGAN's claim, measured: adversarial training of a pre-trained TransE against further Bernoulli epochs.

The set-up is the paper's (Cai & Wang, 2018): TransE with the L1 distance, 50 dimensions, margin 3, sums over 100
batches an epoch, Adam at 1e-3, every row clamped to the unit ball after each step; generators with 20 candidates. Ids
are built from all splits, so that no evaluation triple is dropped. For each seed:

1. TransE is pre-trained on Bernoulli negatives, and each generator on its own softmax over the positive and 19
   negatives;
2. from there, the same number of further epochs is run with (a) Bernoulli, (b) KBGAN with DistMult, (c) with ComplEx.

The best epoch is chosen by the filtered MRR on the validation triples; the test metrics (filtered, realistic rank, all
entities, both sides) are those of this epoch. One JSON line a run is appended to ``OUT/DATASET.jsonl``; what stands
there is not run again, and a killed run resumes from its checkpoint.

usage: python benchmarks/kbgan_claim.py --dataset wn18rr --pretraining-epochs 100 --epochs 100 --seeds 3
       python benchmarks/kbgan_claim.py --dataset wn18rr --pretraining-epochs 1000 --epochs 5000 --every 50 --patience 6
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.utils import set_random_seed

from pykeen_advneg.checkpoint import save_checkpoint
from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.initializers import ball_normal_, unit_ball
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from result_lines import append, read

#: Adam's weight decay of the generators: lambda / (100 batches), with the paper's lambda of each data set
WEIGHT_DECAY = {"fb15k237": 0.01, "wn18rr": 0.001, "wn18": 0.001}

METRIC = "both.realistic.inverse_harmonic_mean_rank"

Arm = tuple[str, str, dict[str, Any]]


def train(
    dataset: Any, work: Path, name: str, arm: Arm, epochs: int, stopping: dict[str, int], seed: int, **loop: Any
) -> PipelineResult:
    """Train one arm through PyKEEN's pipeline, with the best epoch on the validation triples restored at the end."""
    _, sampler, sampler_kwargs = arm
    return pipeline(
        dataset=dataset,
        model="transe",
        model_kwargs=dict(
            embedding_dim=50,
            scoring_fct_norm=1,
            entity_initializer=ball_normal_,
            relation_initializer=ball_normal_,
            entity_constrainer=unit_ball,
            relation_constrainer=unit_ball,
        ),
        loss="marginranking",
        loss_kwargs=dict(margin=3.0, reduction="sum"),
        optimizer="adam",
        optimizer_kwargs=dict(lr=1e-3, fused=True),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False, **loop),
        negative_sampler=sampler,
        negative_sampler_kwargs=sampler_kwargs,
        training_kwargs=dict(
            num_epochs=epochs,
            batch_size=-(-dataset.training.num_triples // 100),
            checkpoint_directory=work,
            checkpoint_name=f"{name}.checkpoint.pt",
            checkpoint_frequency=5,
            use_tqdm_batch=False,
        ),
        stopper="early",
        stopper_kwargs=dict(**stopping, relative_delta=0.0, metric=METRIC),
        evaluator="fastrankbased",
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=seed,
    )


def pretrain_generator(dataset: Any, path: Path, sampler_kwargs: dict[str, Any], epochs: int, seed: int) -> None:
    """Pre-train a generator, as the sampler does in the loop's pre-training epochs, and save its weights."""
    if path.is_file():
        return
    set_random_seed(seed)
    triples = dataset.training.mapped_triples
    sampler = KBGANNegativeSampler(
        mapped_triples=triples,
        num_entities=dataset.num_entities,
        num_relations=dataset.num_relations,
        **sampler_kwargs,
    )
    for epoch in range(1, epochs + 1):
        for ids in torch.randperm(len(triples)).chunk(100):
            sampler.warm_up(triples[ids])
        if epoch % 25 == 0:
            print(f"{path.name}: epoch {epoch} of {epochs}", flush=True)
    save_checkpoint(sampler.generator.state_dict(), path)


def record(result: PipelineResult, arm: str, epochs: int, every: int, seed: int, **extra: Any) -> dict[str, Any]:
    """Collect what the result file keeps of a run."""
    stopper: Any = result.stopper
    test = result.metric_results
    return dict(
        arm=arm,
        seed=seed,
        epochs=epochs,
        epochs_run=len(result.losses),
        validation=dict(zip(range(every, epochs + 1, every), stopper.results, strict=False)),
        best_epoch=stopper.best_epoch,
        test={
            name: test.get_metric(f"both.realistic.{key}")
            for name, key in {
                "mrr": "inverse_harmonic_mean_rank",
                "hits_at_1": "hits_at_1",
                "hits_at_3": "hits_at_3",
                "hits_at_10": "hits_at_10",
                "mean_rank": "arithmetic_mean_rank",
            }.items()
        },
        losses=result.losses,
        **extra,
        versions={package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")},
        finished=time.strftime("%Y-%m-%d"),
    )


def main(
    dataset: Annotated[str, typer.Option(help="fb15k237, wn18rr or wn18")] = "wn18rr",
    pretraining_epochs: Annotated[int, typer.Option(help="epochs before the arms part")] = 100,
    epochs: Annotated[int, typer.Option(help="further epochs of each arm")] = 100,
    every: Annotated[int, typer.Option(help="epochs between two validations")] = 25,
    patience: Annotated[int, typer.Option(help="validations without improvement after which a run stops")] = 10**6,
    seeds: Annotated[int, typer.Option(help="number of seeds")] = 3,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    work: Annotated[Path, typer.Option(help="folder of weights and checkpoints")] = Path("build/kbgan_claim"),
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/kbgan"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    data = load_dataset(dataset, vocabulary="all")
    file = out / f"{dataset}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    lines = read(file)
    done = {(line["arm"], line["seed"], line["epochs"], line["pretraining_epochs"]) for line in lines}
    stopping = dict(frequency=every, patience=patience)
    setting = dict(dataset=dataset, vocabulary="all", pretraining_epochs=pretraining_epochs)

    def generator(name: str) -> dict[str, Any]:
        return dict(generator=name, generator_optimizer_kwargs=dict(weight_decay=WEIGHT_DECAY[dataset], fused=True))

    def run(arm: Arm, num_epochs: int, seed: int, **loop: Any) -> None:
        name = f"{dataset}-{pretraining_epochs}-{num_epochs}-{arm[0]}-{seed}"
        weights = work / f"{name}.pt"
        if (arm[0], seed, num_epochs, pretraining_epochs) in done and weights.is_file():
            return
        # other random numbers than those of the pre-training
        random_seed = seed + 1000 * bool(loop)
        result = train(data, work, name, arm, num_epochs, stopping, random_seed, **loop)
        save_checkpoint(result.model.state_dict(), weights)
        line = record(result, arm[0], num_epochs, every, seed, **setting)
        append(file, line)
        print(f"{name}: test MRR {line['test']['mrr']:.4f}, best epoch {line['best_epoch']}", flush=True)

    for seed in range(seeds):
        run(("pretrained", "bernoulli", {}), pretraining_epochs, seed)
        start = work / f"{dataset}-{pretraining_epochs}-{pretraining_epochs}-pretrained-{seed}.pt"
        arms: list[Arm] = [("bernoulli", "bernoulli", {})]
        for name in ("distmult", "complex"):
            path = work / f"{dataset}-{pretraining_epochs}-generator-{name}-{seed}.pt"
            pretrain_generator(data, path, generator(name), pretraining_epochs, seed)
            arms.append((f"kbgan-{name}", "kbgan", generator(name) | dict(generator_warm_start=path)))
        for arm in arms:
            run(arm, epochs, seed, warm_start=start)


if __name__ == "__main__":
    typer.run(main)
