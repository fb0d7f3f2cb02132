"""The recipes: do the files follow from the specification, and does PyKEEN run them?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.datasets import UMLS, get_dataset
from pykeen.models import ComplEx, DistMult, TransE, model_resolver
from pykeen.pipeline import pipeline_from_config
from test_multimodal_datasets import FILES
from torch.nn import ReLU

from pykeen_advneg import experiments
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.experiments import baselines, dans, emu, mkbe, mmrns, tuned
from pykeen_advneg.experiments.kbgan import recipes
from pykeen_advneg.initializers import ball_normal_, factor_normal_, unit_ball
from pykeen_advneg.models import KBGANTransD
from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg.multimodal.datasets import MovieLens100K

#: the training triples and the generator's weight decay (lambda / 100 batches), from the authors' configuration files
TABLE = {"fb15k237": (272_115, 0.01), "wn18rr": (86_835, 0.001), "wn18": (141_442, 0.001)}
MODELS = {"transe": TransE, "transd": KBGANTransD}
GENERATORS = {"distmult": (DistMult, 50), "complex": (ComplEx, 25)}


def read(name: str) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(experiments.path(name).read_text())
    return recipe


def reduced(name: str) -> dict[str, Any]:
    """The recipe on a small data set, with one epoch of pre-training and three of adversarial training."""
    recipe = read(name)
    recipe["pipeline"]["dataset"] = "umls"
    recipe["pipeline"]["training_loop_kwargs"]["pretraining_epochs"] = 1
    recipe["pipeline"]["training_kwargs"] |= dict(num_epochs=4, batch_size=512)
    recipe["pipeline"]["stopper_kwargs"]["frequency"] = 2
    return recipe


KBGAN = [name for name in experiments.names() if name.startswith("kbgan_")]
BASELINES = [name for name in experiments.names() if name.startswith("baseline_")]
MMRNS = [name for name in experiments.names() if name.startswith("mmrns_")]
TUNED = [name for name in experiments.names() if name.startswith("tuned_")]
STUDIES = sorted(path.parent for path in (Path(__file__).parents[1] / "docs/results/hpo").glob("*/report.json"))
EMU = [name for name in experiments.names() if name.startswith("emu_")]


def test_names() -> None:
    expected = {f"kbgan_{model}_{generator}_{data}" for model in MODELS for generator in GENERATORS for data in TABLE}
    expected |= {
        f"baseline_{model}_{data}"
        for model in ("complex", "distmult", "rotate", "transe")
        for data in ("fb15k237", "wn18rr")
    }
    expected |= {f"mmrns_{model}_{data}" for model in mmrns.MODELS for data in mmrns.DATASETS}
    expected |= {f"emu_{model}_{data}" for model in emu.MODELS for data in ("fb15k237", "wn18rr")}
    expected |= {f"dans_rgcn_distmult_{data}" for data in ("umls", "wn18rr")}
    expected |= {"mkbe_distmult_movielens100k", "mkbe_distmult_fb15k237numeric"}
    expected |= {
        f"tuned_complex_{sampler}_{data}"
        for sampler in ("dans", "emu", "kbgan", "selfadversarial_margin0", "uniform")
        for data in ("codexsmall", "wn18rr")
    }
    # on WN18RR, the former has learnt nothing in the epochs of the study, and the latter was no arm
    expected |= {f"tuned_complex_{sampler}_codexsmall" for sampler in ("selfadversarial", "kbgan_chunks")}
    assert set(experiments.names()) == expected


def test_unknown_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'kbgan_rotate' is no recipe; choose one of \['baseline_complex"):
        experiments.path("kbgan_rotate")


def test_files_are_those_of_the_script() -> None:
    """`python -m pykeen_advneg.experiments.kbgan` writes them."""
    made = recipes() | baselines.recipes() | dans.recipes() | emu.recipes() | mkbe.recipes() | mmrns.recipes()
    for study in STUDIES:
        made |= tuned.recipes(study)
    assert {name: read(name) for name in experiments.names()} == json.loads(json.dumps(made))


@pytest.mark.parametrize("name", KBGAN)
def test_settings(name: str) -> None:
    """The numbers of the specification, spelt out once more, not taken from the script."""
    _, model, generator, data = name.split("_")
    pipeline = read(name)["pipeline"]
    num_triples, weight_decay = TABLE[data]
    assert pipeline["dataset"] == data
    assert model_resolver.lookup(pipeline["model"]) is MODELS[model]
    assert pipeline["model_kwargs"]["embedding_dim"] == 50
    assert pipeline["loss_kwargs"] == {"margin": 3.0, "reduction": "sum"}
    assert pipeline["optimizer_kwargs"] == {"lr": 0.001}
    assert pipeline["training_loop_kwargs"]["pretraining_epochs"] == 1000
    assert pipeline["training_kwargs"]["num_epochs"] == 6000
    size = pipeline["training_kwargs"]["batch_size"]
    assert 99 * size < num_triples <= 100 * size
    assert pipeline["stopper_kwargs"]["frequency"] == 100
    sampler = pipeline["negative_sampler_kwargs"]
    assert model_resolver.lookup(sampler["generator"]) is GENERATORS[generator][0]
    assert sampler["generator_kwargs"]["embedding_dim"] == GENERATORS[generator][1]
    assert sampler["generator_optimizer_kwargs"] == {"lr": 0.001, "weight_decay": pytest.approx(weight_decay)}
    expected = dict(num_candidates=20, num_negs_per_pos=1, temperature=1.0, side="bernoulli", baseline="epoch")
    assert {key: sampler[key] for key in expected} == expected


@pytest.mark.parametrize("name", [name for name in KBGAN if name.endswith("wn18rr")])
def test_run(name: str) -> None:
    """PyKEEN builds what the recipe says, and trains it."""
    result = pipeline_from_config(reduced(name), random_seed=0, use_tqdm=False)
    model, sampler = result.model, result.training_loop._sampler
    assert len(result.losses) == 4
    assert len(result.stopper.results) == 2
    assert result.get_metric("mrr") > 0
    for representation in (*model.entity_representations, *model.relation_representations):
        assert representation.initializer is ball_normal_
        assert representation.constrainer is unit_ball
        assert representation().norm(dim=-1).max() <= 1 + 1e-5
    assert model.interaction.p == 1
    assert model.interaction.power_norm is False
    (generator_entities,) = sampler.generator.entity_representations
    assert generator_entities.initializer is factor_normal_
    assert generator_entities.constrainer is None
    assert generator_entities.regularizer is None
    assert sampler.generator.relation_representations[0].regularizer is None


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        check=False,
    )


@pytest.mark.slow
def test_module_prints_paths() -> None:
    listed = command("-m", "pykeen_advneg.experiments")
    assert listed.stdout.split() == experiments.names()
    found = command("-m", "pykeen_advneg.experiments", "kbgan_transe_complex_wn18")
    assert Path(found.stdout.strip()).is_file()
    unknown = command("-m", "pykeen_advneg.experiments", "kbgan")
    assert unknown.returncode == 2
    assert "is no recipe" in unknown.stderr


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    """`pykeen experiments run`, which imports nothing of this package; it compares with the published numbers."""
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(reduced("kbgan_transd_complex_wn18rr")))
    done = command("-m", "pykeen", "experiments", "run", str(path), "-d", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "out").glob("*/replicates/*/results.json")
    assert len(json.loads(results.read_text())["losses"]) == 4
    (metrics,) = (tmp_path / "out").glob("*/all_replicates_metrics.tsv")
    header, published, ours = metrics.read_text().splitlines()
    assert "hits_at_10" in header
    assert published.split("\t") == ["True", "0.469", "0.215"]
    assert ours.startswith("False")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("dataset", list(TABLE))
def test_number_of_triples(dataset: str, needs_data: Any) -> None:
    """The batch sizes belong to the data sets as PyKEEN loads them."""
    needs_data(dataset)
    assert get_dataset(dataset=dataset).training.num_triples == TABLE[dataset][0]


@pytest.mark.parametrize("name", EMU)
def test_settings_of_emu(name: str) -> None:
    """The numbers of the authors' commands but for the learning rate, and PyKEEN's parts which would change them."""
    pipeline = read(name)["pipeline"]
    assert ["emu", pipeline["model"], pipeline["dataset"]] == name.split("_")
    assert pipeline["model_kwargs"]["embedding_dim"] == 100
    assert pipeline["model_kwargs"]["regularizer"] is None
    assert pipeline["optimizer"] == "sparseadagrad"
    # ComplEx wants less on WN18RR, as TransE does everywhere
    is_low = name in {"emu_complex_wn18rr", "emu_transe_fb15k237", "emu_transe_wn18rr"}
    assert pipeline["optimizer_kwargs"] == {"lr": 0.1 if is_low else 0.3}
    assert pipeline["model_kwargs"]["entity_initializer"] == "range_uniform_"
    assert ("relation_initializer" in pipeline["model_kwargs"]) == (pipeline["model"] != "rotate")
    if pipeline["model"] == "transe":
        assert pipeline["model_kwargs"]["scoring_fct_norm"] == 1
    assert pipeline["training_kwargs"]["batch_size"] == 1000
    sampler = pipeline["negative_sampler_kwargs"]
    expected = dict(num_negs_per_pos=256, mutation_rate=0.39, negative_label=0.53, ce_weight=0.11)
    assert {key: sampler[key] for key in expected} == expected
    assert (sampler["base"], sampler["base_kwargs"]) == ("shared", {"chunk_size": 128})


@pytest.mark.parametrize("name", EMU)
def test_emu_runs(name: str) -> None:
    recipe = read(name)
    recipe["pipeline"]["dataset"] = "umls"
    recipe["pipeline"]["training_kwargs"] |= dict(num_epochs=5, batch_size=512, use_tqdm=False)
    recipe["pipeline"]["negative_sampler_kwargs"]["num_negs_per_pos"] = 32
    result = pipeline_from_config(recipe, random_seed=0)
    assert result.losses[-1] < result.losses[0]
    assert len(result.stopper.results) == 1
    (entities,) = result.model.entity_representations
    assert entities.constrainer is None
    assert entities.regularizer is None


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_run(name: str) -> None:
    """On a small data set; the loss falls, and the kind of loop, sampler and optimizer are those of the engine."""
    recipe = read(name)
    recipe["pipeline"]["dataset"] = "umls"
    recipe["pipeline"]["training_kwargs"] |= dict(num_epochs=3, batch_size=512, use_tqdm=False)
    recipe["pipeline"]["negative_sampler_kwargs"]["num_negs_per_pos"] = 32
    # the pipeline drops the optimizer otherwise
    recipe["pipeline"]["clear_optimizer"] = False
    result = pipeline_from_config(recipe)
    assert result.losses[-1] < result.losses[0]
    assert [type(result.training_loop).__name__, type(result.training_loop.optimizer).__name__] == [
        "AdversarialTrainingLoop",
        "SparseAdagrad",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNED)
def test_tuned_run(name: str) -> None:
    """On a small data set; the epochs of the study, and its loop and sampler. It is evaluated on test."""
    recipe = read(name)
    recipe["pipeline"]["dataset"] = "umls"
    sampler = recipe["pipeline"]["negative_sampler_kwargs"]
    if "num_candidates" in sampler:
        sampler["num_candidates"] = min(sampler["num_candidates"], 135)  # UMLS has no more entities
    recipe["pipeline"]["training_kwargs"]["num_epochs"] = 2
    recipe["pipeline"]["stopper_kwargs"]["frequency"] = 2
    result = pipeline_from_config(recipe)
    assert result.losses[-1] < result.losses[0]
    assert type(result.training_loop).__name__ == "AdversarialTrainingLoop"
    assert result.get_metric("mrr") > 0.01
    assert "seeds" in recipe["metadata"]["comments"]


@pytest.mark.parametrize("name", MMRNS)
def test_mmrns_settings(name: str) -> None:
    """The numbers of the published command, spelt out once more."""
    pipeline = read(name)["pipeline"]
    sampler = pipeline["negative_sampler_kwargs"]
    assert pipeline["model_kwargs"]["embedding_dim"] == 200
    assert pipeline["training_kwargs"]["batch_size"] == 400
    assert pipeline["optimizer_kwargs"] == sampler["optimizer_kwargs"] == {"lr": 1e-4}
    expected = dict(num_negs_per_pos=20, pool_size=1500, exploration=10, contrast_weight=0.01, objective="mmrns")
    assert {key: sampler[key] for key in expected} == expected
    assert sampler["margin"] == pipeline["loss_kwargs"]["margin"] == (0 if "distmult" in name else 6)
    steps = pipeline["training_kwargs"]["num_epochs"] * -(-TABLE[name.rpartition("_")[2]][0] // 400)
    assert 100_000 <= steps < 101_000


@pytest.mark.parametrize("model", mmrns.MODELS)
def test_mmrns_run(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small data set, with features from the file which the recipe names."""
    monkeypatch.chdir(tmp_path)
    recipe = read(f"mmrns_{model}_wn18rr")
    recipe["pipeline"] |= dict(dataset="umls", stopper=None, stopper_kwargs=None)
    recipe["pipeline"]["model_kwargs"]["embedding_dim"] = 8
    recipe["pipeline"]["training_kwargs"] |= dict(num_epochs=1, use_tqdm=False)
    recipe["pipeline"]["negative_sampler_kwargs"]["pool_size"] = 50
    with pytest.raises(ConfigurationError, match="there is no such file"):
        pipeline_from_config(recipe, use_tqdm=False)
    labels = list(UMLS().training.entity_to_id)
    MultimodalFeatures(text=torch.rand(len(labels), 2, 5), labels=labels).save(mmrns.FEATURES)
    result = pipeline_from_config(recipe, random_seed=0, use_tqdm=False)
    assert result.training_loop.sampler.comparison.features.modalities == ("text",)


@pytest.mark.parametrize(("name", "batches"), [("dans_rgcn_distmult_umls", 6), ("dans_rgcn_distmult_wn18rr", 3)])
def test_settings_of_dans(name: str, batches: int) -> None:
    """The numbers of the specification, in steps; PyKEEN builds what the recipe says, and trains it."""
    recipe = read(name)["pipeline"]
    pretraining = recipe["training_loop_kwargs"]["pretraining_epochs"]
    assert 1200 <= pretraining * batches < 1200 + batches
    assert 5000 <= (recipe["training_kwargs"]["num_epochs"] - pretraining) * batches < 5000 + batches
    assert 100 <= recipe["stopper_kwargs"]["frequency"] * batches < 100 + batches
    sampler = recipe["negative_sampler_kwargs"]
    numbers = [sampler[f"num_{key}"] for key in ("generated_entity", "generated_relation", "negs_per_pos")]
    assert numbers == [5, 5, 10]
    assert (sampler["noise"], sampler["film_regularization"], sampler["discriminator_steps"]) == (0.01, 1e-4, 10)
    recipe |= dict(dataset="nations")
    recipe["model_kwargs"]["embedding_dim"] = 8
    recipe["training_loop_kwargs"]["pretraining_epochs"] = 1
    recipe["training_kwargs"] |= dict(num_epochs=2, use_tqdm=False)
    recipe["stopper_kwargs"]["frequency"] = 1
    result = pipeline_from_config(dict(metadata={}, pipeline=recipe), random_seed=0)
    assert len(result.losses) == 2
    assert result.stopper.best_epoch == 2, "the model which is given back has seen DANS"
    assert len(result.stopper.results) == 1
    encoder = result.model.entity_representations[0]
    assert len(encoder.layers) == 2
    assert isinstance(encoder.layers[0].activation, ReLU)
    assert [group["betas"] for o in result.training_loop.sampler.optimizers() for group in o.param_groups] == (
        3 * [pytest.approx([0.5, 0.999])]
    )


def test_mkbe_on_movielens(tmp_path: Path) -> None:
    """The published numbers, and the recipe as it is on files with the layout of the real ones."""
    recipe = read("mkbe_distmult_movielens100k")
    pipeline = recipe["pipeline"]
    assert pipeline["loss_kwargs"] == {"margin": 1.5, "reduction": "sum"}
    assert pipeline["model_kwargs"]["embedding_dim"] == 128
    assert pipeline["training_kwargs"]["batch_size"] == 512
    folder = tmp_path / "movielens100k" / "ml-100k"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    more = "".join(f"{user}\t{film}\t{1 + (user + film) % 5}\t0\n" for user in (1, 2, 3) for film in (1, 2, 3))
    (folder / "u1.base").write_text(more)
    pipeline["dataset"] = MovieLens100K(**pipeline.pop("dataset_kwargs"), cache_root=tmp_path)
    pipeline["training_kwargs"]["num_epochs"] = 1
    result = pipeline_from_config(recipe)
    assert 0 < result.get_metric("mrr") <= 1
    assert result.get_metric("rmse") < 4
