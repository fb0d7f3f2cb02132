"""Whether negatives of DANS improve a pre-trained model more than random ones do (Liu et al., 2024).

From the same model, pre-trained on 20 random negatives of each positive (best epoch on the validation triples), each
arm is trained for the same number of further epochs, by a fresh Adam:

* ``random``: 20 random negatives;
* ``selfadv``: the same, weighted by their probability (the loss ``AdversarialBCEWithLogits``, temperature 1). This loss
  also gives positives one half of the weight, where the binary cross-entropy of 20 negatives gives them 1/21;
* ``balanced``: the same loss with equal weights of the negatives (inverse temperature 0), thus one half for positives
  and nothing else: the part of ``selfadv`` which is not self-adversarial;
* ``dans``: 5 + 5 generated and 10 random negatives;
* ablations of ``dans``: ``entity`` and ``relation`` (10 + 0 and 0 + 10 generated), ``nofilm``, ``noaux``, ``attached``
  (the gradient goes through the generators), ``steps1``, ``steps2`` and ``steps5`` (of the discriminator),
  ``residual`` (FiLM starts from doing nothing), ``ns5``, ``ns10``, ``ns30`` (1 + 1 + 3, 2 + 3 + 5 and 7 + 8 + 15
  negatives), ``lambda1e-6``, ``lambda1e-5``, ``lambda1e-3`` (the weight of FiLM's regulariser).

The model is R-GCN (two layers, 4 bases, no dropout) with DistMult in 100 dimensions, or with ComplEx or RotatE in 50
complex ones; or, with ``--encoder none``, the decoder alone. Binary cross-entropy, Adam at 0.01, batches of 1,000, the
gradient clipped to norm 1, and a regulariser of weight 0.01 on the mean squares of entities and relations. Other than
in the authors' code: PyKEEN's regulariser counts each look-up, of which a batch has four of entities (heads and tails
of positives, what negatives keep, and what they put there) and two of relations, so that the factors are 0.04 and
0.02 (without an encoder, PyKEEN's DistMult regularises its relations only, and RotatE nothing; with R-GCN, RotatE its
entities only); PyKEEN's R-GCN sends messages over all training triples, and not over a random half of the batch; it
has no dropout between layers; negatives come from all entities, and not from those of the batch; PyKEEN's ``basic``
corrupts one side in all negatives of a positive (heads in the first half of the batch, tails in the second), where
each generated one has a random side.

Validation, filtered MRR with realistic ranks on both sides, is every few epochs; the test results are those of the best
of these epochs. As in the authors' code, the triples of all three splits are left out of the candidates in validation,
too. One JSON line a run is appended to
``OUT/DATASET.jsonl``; what stands there is not run again. ``python benchmarks/dans_report.py`` writes the page.

usage: python benchmarks/dans_claim.py --dataset umls --arms random,dans,selfadv
       python benchmarks/dans_claim.py --dataset wn18rr --encoder none --pretraining-epochs 60 --epochs 30 --seeds 3
"""

from __future__ import annotations

import json
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.evaluation import RankBasedMetricResults
from pykeen.models import RGCN, ERModel, model_resolver
from pykeen.nn.message_passing import RGCNRepresentation
from pykeen.nn.representation import TransformedRepresentation
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.trackers import PythonResultTracker
from pykeen.utils import set_random_seed
from torch import nn
from torch.nn.init import xavier_uniform_

from pykeen_advneg.checkpoint import save_checkpoint
from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.evaluation import FastRankBasedEvaluator
from pykeen_advneg.metrics import NDCGAt5
from result_lines import append, read

METRIC = "both.realistic.inverse_harmonic_mean_rank"

#: by the name of the arm: the parameters of the sampler ``dans``, ``None`` for random negatives
ARMS: dict[str, dict[str, Any] | None] = {
    "random": None,
    "selfadv": None,
    "balanced": None,
    "dans": {},
    "entity": dict(num_generated_entity=10, num_generated_relation=0),
    "relation": dict(num_generated_entity=0, num_generated_relation=10),
    "nofilm": dict(film=False),
    "noaux": dict(auxiliary=False),
    "attached": dict(detach_fakes=False),
    "residual": dict(film_residual=True),
    "steps1": dict(discriminator_steps=1),
    "steps2": dict(discriminator_steps=2),
    "steps5": dict(discriminator_steps=5),
    "ns5": dict(num_generated_entity=1, num_generated_relation=1, num_negs_per_pos=3),
    "ns10": dict(num_generated_entity=2, num_generated_relation=3, num_negs_per_pos=5),
    "ns30": dict(num_generated_entity=7, num_generated_relation=8, num_negs_per_pos=15),
    "lambda1e-6": dict(film_regularization=1e-6),
    "lambda1e-5": dict(film_regularization=1e-5),
    "lambda1e-3": dict(film_regularization=1e-3),
}

NUM_NEGATIVES = 20

LOSS = "bcewithlogits"

#: the losses of arms with another one, and their parameters
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "selfadv": ("adversarialbcewithlogits", dict(inverse_softmax_temperature=1.0)),
    "balanced": ("adversarialbcewithlogits", dict(inverse_softmax_temperature=0.0)),
}

#: PyKEEN takes the dropout of edges for that of self-loops where the latter is 0
SMALL = 1e-12

REGULARIZER: dict[str, Any] = dict(regularizer="powersum", regularizer_kwargs=dict(weight=0.01, p=2.0, normalize=True))


class KnowsAllSplits(FastRankBasedEvaluator):
    """Leaves the triples of all splits out of the candidates."""

    def __init__(self, known: torch.Tensor, **kwargs: Any) -> None:
        """Initialize the evaluator.

        :param known: all triples, shape: ``(n, 3)``
        :param kwargs: keyword-based parameters of the evaluator
        """
        super().__init__(**kwargs)
        self.known = known

    def evaluate(self, *args: Any, **kwargs: Any) -> RankBasedMetricResults:
        """Evaluate."""
        return super().evaluate(*args, **{**kwargs, "additional_filter_triples": self.known})


class ToComplex(nn.Module):
    """Takes pairs of real numbers for complex ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convert, shape: ``(n, 2 * d)`` to ``(n, d)``."""
        return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def make_model(
    encoder: str,
    decoder: str,
    training: Any,
    dim: int,
    edge_dropout: float,
    loss: str,
    loss_kwargs: dict[str, Any] | None = None,
) -> ERModel[Any, Any, Any]:
    """Make a model of ``dim`` real numbers for each entity."""
    common: dict[str, Any] = dict(triples_factory=training, loss=loss, loss_kwargs=loss_kwargs)
    if encoder == "none":
        kwargs: dict[str, Any] = dict(embedding_dim=dim if decoder == "distmult" else dim // 2)
        kwargs |= dict(entity_constrainer=None) if decoder == "distmult" else {}
        # PyKEEN's RotatE keeps relations on the unit circle, and takes no regulariser
        kwargs |= {} if decoder == "rotate" else REGULARIZER
        model: ERModel[Any, Any, Any] = model_resolver.make(decoder, kwargs, **common)
        return model
    layers = dict(
        num_layers=2,
        decomposition="bases",
        decomposition_kwargs=dict(num_bases=4),
        edge_dropout=edge_dropout,
        self_loop_dropout=SMALL,
        activation=nn.ReLU,
    )
    if decoder == "distmult":
        return RGCN(embedding_dim=dim, interaction="distmult", **layers, **REGULARIZER, **common)
    base = dict(shape=dim, initializer=xavier_uniform_)
    graph = dict(triples_factory=training, entity_representations_kwargs=base, **layers)
    is_rotation = decoder == "rotate"
    relation: dict[str, Any] = dict(shape=dim // 2, dtype=torch.cfloat)
    if is_rotation:
        relation |= dict(initializer="init_phases", constrainer="complex_normalize")
    else:
        relation |= dict(initializer=xavier_uniform_)
    return ERModel(
        interaction=decoder,
        entity_representations=TransformedRepresentation,
        entity_representations_kwargs=dict(
            base=RGCNRepresentation, base_kwargs=dict(**graph, **REGULARIZER), transformation=ToComplex()
        ),
        relation_representations_kwargs=relation | ({} if is_rotation else REGULARIZER),
        **common,
    )


def train(
    data: Any, model: ERModel[Any, Any, Any], arm: str, *, seed: int, epochs: int, every: int, start: Path | None
) -> tuple[PipelineResult, dict[str, Any]]:
    """Train an arm through PyKEEN's pipeline, and give the result with what the result file keeps."""
    tracker = PythonResultTracker(store_metrics=True)
    options = ARMS[arm]
    kwargs = dict(num_negs_per_pos=NUM_NEGATIVES) if options is None else options
    known = torch.cat([split.mapped_triples for split in (data.training, data.validation, data.testing)])
    begin = time.perf_counter()
    result = pipeline(
        dataset=data,
        model=model,
        optimizer="adam",
        optimizer_kwargs=dict(lr=0.01),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False, warm_start=start),
        negative_sampler="basic" if options is None else "dans",
        negative_sampler_kwargs=kwargs,
        training_kwargs=dict(num_epochs=epochs, batch_size=1000, use_tqdm=False, gradient_clipping_max_norm=1.0),
        stopper="early",
        stopper_kwargs=dict(
            frequency=every, patience=10**6, relative_delta=0.0, metric=METRIC, evaluation_batch_size=512
        ),
        evaluator=KnowsAllSplits(known, metrics=[NDCGAt5]),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=512),
        evaluation_fallback=False,
        result_tracker=tracker,
        random_seed=seed,
        device="cpu",
    )
    seconds = time.perf_counter() - begin
    validation = {every * (i + 1): float(value) for i, value in enumerate(result.stopper.results)}
    # PyKEEN finds only registered metrics by their names
    test = result.metric_results.to_flat_dict()
    names = dict(mrr=METRIC.rpartition(".")[2], hits_at_1="hits_at_1", hits_at_10="hits_at_10", ndcg_at_5="ndcg_at_5")
    return result, dict(
        best_epoch=max(validation, key=lambda epoch: validation[epoch]),
        validation_mrr=max(validation.values()),
        validation=validation,
        test={name: float(test[f"both.realistic.{key}"]) for name, key in names.items()},
        losses=[round(loss, 5) for loss in result.losses],
        sampler=_of_sampler(tracker, epochs),
        seconds=seconds,
    )


def _of_sampler(tracker: PythonResultTracker, epochs: int) -> dict[str, list[float]]:
    """Collect what the sampler says of each epoch."""
    rows = [tracker.metrics.get(epoch, {}) for epoch in range(1, epochs + 1)]
    names = sorted({name for row in rows for name in row if name.startswith("sampler.")})
    return {
        name.removeprefix("sampler."): [round(float(row[name]), 4) for row in rows if name in row] for name in names
    }


def main(
    dataset: Annotated[str, typer.Option(help="a name of PyKEEN's, or a folder")] = "umls",
    encoder: Annotated[str, typer.Option(help="rgcn or none")] = "rgcn",
    decoder: Annotated[str, typer.Option(help="distmult, complex or rotate")] = "distmult",
    arms: Annotated[str, typer.Option(help="names, with commas between them")] = "random,dans,selfadv",
    pretraining_epochs: Annotated[int, typer.Option(help="epochs before the arms part")] = 100,
    epochs: Annotated[int, typer.Option(help="further epochs of each arm")] = 100,
    every: Annotated[int, typer.Option(help="epochs between two validations")] = 5,
    edge_dropout: Annotated[float, typer.Option(help="share of the edges without a message in a batch")] = 0.0,
    dim: Annotated[int, typer.Option(help="real numbers of an entity")] = 100,
    seeds: Annotated[int, typer.Option(help="number of seeds")] = 5,
    first_seed: Annotated[int, typer.Option(help="the first of them")] = 0,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    work: Annotated[Path, typer.Option(help="folder of weights")] = Path("build/dans_claim"),
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/dans"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    data = load_dataset(dataset, vocabulary="all")
    name = Path(dataset).name.lower()
    file = out / f"{name}.jsonl"
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    lines = read(file)
    setting: dict[str, Any] = dict(
        dataset=name,
        encoder=encoder,
        decoder=decoder,
        dim=dim,
        pretraining_epochs=pretraining_epochs,
        every=every,
        edge_dropout=edge_dropout,
    )

    def run(arm: str, seed: int, num_epochs: int, start: Path | None, weights: Path | None) -> None:
        key = dict(**setting, arm=arm, seed=seed, epochs=num_epochs)
        is_done = any(all(line[k] == value for k, value in key.items()) for line in lines)
        if is_done and (weights is None or weights.is_file()):
            return
        # other random numbers than those of the pre-training
        random_seed = seed + 1000 * (start is not None)
        set_random_seed(random_seed)
        loss, loss_kwargs = LOSSES.get(arm, (LOSS, {}))
        model = make_model(encoder, decoder, data.training, dim, edge_dropout, loss, loss_kwargs)
        sampled = "random" if arm == "pretrained" else arm
        result, found = train(data, model, sampled, seed=random_seed, epochs=num_epochs, every=every, start=start)
        if weights is not None:
            save_checkpoint(result.model.state_dict(), weights)
        versions = {package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")}
        line = dict(**key, **found, threads=threads, finished=date.today().isoformat(), versions=versions)
        lines.append(json.loads(json.dumps(line)))
        append(file, line)
        shown = {metric: round(value, 4) for metric, value in found["test"].items()}
        print(arm, seed, "best epoch", found["best_epoch"], "test", shown, f"{found['seconds']:.0f} s", flush=True)

    for seed in range(first_seed, first_seed + seeds):
        start = work / f"{name}-{encoder}-{decoder}-{dim}-{edge_dropout}-{pretraining_epochs}-{every}-{seed}.pt"
        run("pretrained", seed, pretraining_epochs, None, start)
        for arm in arms.split(","):
            run(arm, seed, epochs, start, None)


if __name__ == "__main__":
    typer.run(main)
