"""Do numbers help to predict links, and are they predicted well? FB15k-237 with the numbers of its entities.

Links alone (``links``) against links and numbers (``numbers``), with the same settings, seeds and epochs; each with the
learning rate of a grid which is best by validation MRR of links with seed 0, and then with other seeds. Link prediction
is filtered, on both sides, among entities. Then each attribute with enough held-out numbers is filled in: by the
decoder on the embeddings of either arm, by k-nearest neighbours and ridge regression on them, by ridge regression on
them and on the other numbers of the entity (``literals``: the features of LiteralE), by mean and median.

One JSON line a run is appended to ``OUT/numeric.jsonl``; what stands there is not run again.

usage: python benchmarks/mkbe_numeric.py --out runs --interaction distmult --seeds 3
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pykeen.pipeline import pipeline

from pykeen_advneg.multimodal.datasets import FB15k237Numeric
from pykeen_advneg.multimodal.evaluation import EntityRankingEvaluator, rank_values
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory
from pykeen_advneg.multimodal.imputation import entity_embeddings, fit_decoder
from pykeen_advneg.multimodal.mkbe import MKBE
from result_lines import run_tuned

#: how many numbers of testing an attribute has, at least
ENOUGH = 40
NEIGHBOURS = 10
#: attributes with fewer numbers are left out: 25 of 116 remain, with 24,000 of 29,247 numbers
MOST_FREQUENT = 200


def rmse(predicted: np.ndarray, true: np.ndarray) -> float:
    """Compute the root mean squared error."""
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def numbers_of(factory: MultimodalTriplesFactory, name: str) -> tuple[torch.Tensor, np.ndarray]:
    """Give the entities which have a number, and the numbers."""
    triples, attribute = factory.of_attribute(name), factory.attributes[name]
    assert attribute.values is not None
    return triples[:, 0], attribute.values[triples[:, 2] - attribute.start].numpy()


def literals(training: MultimodalTriplesFactory) -> dict[str, torch.Tensor]:
    """Give each attribute's training numbers by entity, and which entities have one, shape: ``(entities, 2)``.

    Numbers are in standard deviations from the mean; where there is none, they are zero.
    """
    found = {}
    for name, attribute in training.attributes.items():
        ids, numbers = numbers_of(training, name)
        columns = torch.zeros(training.num_entities, 2)
        columns[ids] = torch.stack(
            [torch.as_tensor((numbers - attribute.mean) / attribute.std), torch.ones(len(ids))], 1
        ).float()
        found[name] = columns
    return found


def impute(model: MKBE, data: FB15k237Numeric, training: MultimodalTriplesFactory, seed: int) -> dict[str, Any]:
    """Fill in the held-out numbers of each attribute; errors in standard deviations of its training numbers."""
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    testing: Any = data.testing
    results, columns = {}, literals(training)
    for name, attribute in training.attributes.items():
        ids, true = numbers_of(testing, name)
        if len(ids) < ENOUGH:
            continue
        known, numbers = numbers_of(training, name)
        x, new = entity_embeddings(model, known), entity_embeddings(model, ids)
        decoder: Any = fit_decoder(model, training, name, seed=seed, use_tqdm=False)
        made = decoder.predict(new)
        inside = (made.low.numpy() <= true) & (true <= made.high.numpy())
        predictions = {
            "mean": np.full(len(true), numbers.mean()),
            "median": np.full(len(true), np.median(numbers)),
            "decoder": made.value.numpy(),
        }
        others = torch.cat([column for other, column in columns.items() if other != name], 1)
        wide, new_wide = (torch.cat([part, others[place]], 1) for part, place in ((x, known), (new, ids)))
        for label, method, seen, unseen in (
            ("neighbours", KNeighborsRegressor(NEIGHBOURS, weights="distance"), x, new),
            ("ridge", RidgeCV(np.logspace(-1, 4, 11)), x, new),
            ("literals", RidgeCV(np.logspace(-1, 4, 11)), wide, new_wide),
        ):
            predictions[label] = make_pipeline(StandardScaler(), method).fit(seen, numbers).predict(unseen)
        errors = {label: rmse(values, true) / attribute.std for label, values in predictions.items()}
        results[name] = {"count": len(true), "std": attribute.std, "covered": float(inside.mean()), **errors}
    return results


def run(arm: str, interaction: str, seed: int, epochs: int, dim: int, lr: float) -> dict[str, Any]:
    """Train, evaluate links, fill in numbers."""
    data = FB15k237Numeric(min_count=MOST_FREQUENT)
    training: Any = data.training
    used = training if arm == "numbers" else without_numbers(training)
    start = time.perf_counter()
    result = pipeline(
        training=used,
        testing=data.testing,
        validation=data.validation,
        model="mkbe",
        model_kwargs={"embedding_dim": dim, "interaction": interaction},
        loss="crossentropy",
        optimizer="sparseadagrad",
        optimizer_kwargs={"lr": lr},
        training_loop="adversarial",
        training_loop_kwargs={"automatic_memory_optimization": False},
        negative_sampler="shared",
        negative_sampler_kwargs={"num_negs_per_pos": 512, "chunk_size": 256},
        training_kwargs={"num_epochs": epochs, "batch_size": 1024, "use_tqdm": False},
        evaluator="entityranking",
        evaluation_kwargs={"use_tqdm": False},
        random_seed=seed,
        device="cpu",
    )
    model: Any = result.model
    keys = {"mrr": "both.realistic.inverse_harmonic_mean_rank"} | {
        f"hits_at_{k}": f"both.realistic.hits_at_{k}" for k in (1, 3, 10)
    }
    line = {name: result.get_metric(key) for name, key in keys.items()}
    line |= {"seconds_of_training": result.train_seconds, "losses": result.losses}
    validated = EntityRankingEvaluator().evaluate(
        model, data.validation.mapped_triples, additional_filter_triples=[training.mapped_triples], use_tqdm=False
    )
    line["validation_mrr"] = validated.get_metric(keys["mrr"])
    line["imputed"] = impute(model, data, training, seed)
    if arm == "numbers":
        ranked = rank_values(model, data.testing.mapped_triples)
        line["value_mrr"] = {name: results.get_metric("tail.realistic.mrr") for name, results in ranked.items()}
    return {**line, "seconds": time.perf_counter() - start}


def without_numbers(training: MultimodalTriplesFactory) -> MultimodalTriplesFactory:
    """Leave the triples of numbers out; ids stay as they are."""
    return training.clone_and_exchange_triples(training.of_links())


def main(
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    interaction: Annotated[str, typer.Option(help="An interaction of PyKEEN.")] = "distmult",
    arm: Annotated[list[str], typer.Option(help="links, numbers; may be repeated.")] = ["links", "numbers"],  # noqa: B006
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 3,
    epochs: Annotated[int, typer.Option(help="How many epochs.")] = 20,
    dim: Annotated[int, typer.Option(help="The embedding dimension.")] = 100,
    rates: Annotated[list[float], typer.Option("--rate", help="Learning rates; may be repeated.")] = [0.03, 0.1, 0.3],  # noqa: B006
) -> None:
    """Run what is not in the result file yet."""
    torch.set_num_threads(1)
    stamp = {"versions": {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg")}}
    arms = [{"arm": name, "interaction": interaction, "epochs": epochs, "dim": dim} for name in arm]
    run_tuned(out / "numeric.jsonl", arms, rates, seeds, lambda **key: {**run(**key), **stamp})


if __name__ == "__main__":
    typer.run(main)
