"""A trained model in a folder, and ``advneg impute`` on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from multimodal_graphs import dataset, values
from PIL import Image
from typer.testing import CliRunner

from pykeen_advneg.cli import app
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal.decoders import NumericDecoder
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory
from pykeen_advneg.multimodal.imputation import candidates, entity_embeddings, fit_decoder, predict
from pykeen_advneg.multimodal.mkbe import MKBE
from pykeen_advneg.multimodal.saving import load_run, save_run

DATA = dataset(num_users=16, num_films=12)
TRAINING: MultimodalTriplesFactory = DATA.training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = MKBE(triples_factory=TRAINING, embedding_dim=8, interaction="complex", random_seed=0)
    return save_run(model, TRAINING, tmp_path_factory.mktemp("run"))


def test_a_run_is_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    model, training = load_run(folder)
    again = MKBE(triples_factory=TRAINING, embedding_dim=8, interaction="complex", random_seed=0).eval()
    batch = TRAINING.mapped_triples
    assert training == TRAINING
    with torch.no_grad():
        assert torch.equal(model.score_hrt(batch), again.score_hrt(batch))
    with pytest.raises(ConfigurationError, match=r"no 'model.safetensors'"):
        load_run(tmp_path)
    (folder / "model.json").rename(tmp_path / "kept")
    (folder / "model.json").write_text('{"colour": 1}')
    with pytest.raises(ConfigurationError, match="no settings"):
        load_run(folder)
    (tmp_path / "kept").rename(folder / "model.json")
    strange = MKBE(triples_factory=TRAINING, embedding_dim=4, entity_kwargs={"initializer": torch.nn.init.zeros_})
    with pytest.raises(ConfigurationError, match="by name"):
        save_run(strange, TRAINING, tmp_path / "other")


def test_who_lacks_what() -> None:
    links = pd.DataFrame([("a", "r", "x"), ("b", "r", "y"), ("c", "r", "x"), ("x", "s", "y")])
    factory = MultimodalTriplesFactory.from_tables(links, numeric=values([("a", "age", 1), ("b", "age", 2)]))
    lacking = {factory.entity_id_to_label[i] for i in candidates(factory, "age").tolist()}
    # two of three heads of r have it; no tail of r, no head or tail of s
    assert lacking == {"c"}


def test_embeddings_are_real() -> None:
    model = MKBE(triples_factory=TRAINING, embedding_dim=8, interaction="complex", random_seed=0)
    x = entity_embeddings(model, torch.tensor([3, 1]))
    assert x.shape == (2, 16)
    expected = torch.view_as_real(model.entity_representations[0](torch.tensor([3, 1]))).flatten(1)
    assert torch.equal(x, expected.detach())
    with pytest.raises(ConfigurationError, match="makes no values of 'job'"):
        predict(NumericDecoder(embedding_dim=16), model, TRAINING, "job", torch.tensor([0]))


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["impute", *arguments])


@pytest.mark.parametrize(
    ("attribute", "columns"),
    [
        ("age", ["entity", "prediction", "low", "high"]),
        ("job", ["entity", "prediction", "probability"]),
        ("genre", ["entity", "prediction", "probabilities"]),
        ("title", ["entity", "prediction"]),
        ("poster", ["entity", "picture"]),
    ],
)
def test_command(folder: Path, tmp_path: Path, attribute: str, columns: list[str]) -> None:
    arguments = ["--run", str(folder), "--attribute", attribute, "--out", str(tmp_path), "--epochs", "1"]
    chosen = tmp_path / "entities.txt"
    chosen.write_text("u14\nf1\n")
    result = call(*arguments, "--entities", str(chosen))
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(tmp_path / f"{attribute}.tsv", sep="\t", keep_default_na=False)
    assert list(frame.columns) == columns
    assert frame["entity"].tolist() == ["u14", "f1"]
    if attribute == "poster":
        with Image.open(tmp_path / "poster.png") as grid:
            assert grid.size == (64, 8)
    decoder = tmp_path / f"{attribute}.decoder.safetensors"
    again = call(*arguments[:-2], "--entities", str(chosen), "--decoder", str(decoder), "--quiet")
    assert (again.exit_code, again.output) == (0, "")
    assert frame.equals(pd.read_csv(tmp_path / f"{attribute}.tsv", sep="\t", keep_default_na=False))


def test_who_lacks_a_value_by_default(folder: Path, tmp_path: Path) -> None:
    result = call("--run", str(folder), "--attribute", "age", "--out", str(tmp_path), "--epochs", "1", "-q")
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(tmp_path / "age.tsv", sep="\t")
    assert sorted(frame["entity"]) == ["u13", "u14", "u15"]


def test_errors(folder: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    for arguments, message in (
        (["--run", str(tmp_path), "--attribute", "age"], "save_run"),
        (["--run", str(folder), "--attribute", "height"], "'height' is none of"),
        (["--run", str(folder), "--attribute", "age", "--entities", str(tmp_path / "no")], "cannot be read"),
    ):
        result = call(*arguments, *out)
        assert result.exit_code == 2
        assert message in result.output
    (tmp_path / "who").write_text("nobody\n")
    result = call("--run", str(folder), "--attribute", "age", *out, "--entities", str(tmp_path / "who"))
    assert "'nobody' is no entity" in result.output


@pytest.mark.slow
def test_what_links_tell_is_filled_in() -> None:
    """Old users like war films: from the embeddings, the age is told better than by the mean."""
    from pykeen.pipeline import pipeline

    data = dataset("text", "images", "categorical", num_users=60, num_films=12, seed=3)
    result = pipeline(
        dataset=data,
        model="mkbe",
        model_kwargs={"embedding_dim": 16},
        training_loop="adversarial",
        negative_sampler="attributetyped",
        negative_sampler_kwargs={"num_negs_per_pos": 8, "side": "uniform"},
        optimizer_kwargs={"lr": 0.02},
        training_kwargs={"num_epochs": 30, "batch_size": 256, "use_tqdm": False},
        evaluator="entityranking",
        random_seed=0,
    )
    training = data.training
    decoder = fit_decoder(result.model, training, "age", use_tqdm=False)
    attribute = training.attributes["age"]
    held_out = data.testing.of_attribute("age")
    frame, _ = predict(decoder, result.model, training, "age", held_out[:, 0])
    true = attribute.values[held_out[:, 2] - attribute.start]
    old = frame["prediction"].to_numpy()
    # three users are held out; what counts is on which side of the mean they are, which their links tell
    assert ((old > attribute.mean) == (true.numpy() > attribute.mean)).mean() >= 2 / 3
