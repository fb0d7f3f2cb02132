"""A trained model in a folder, and ``advneg impute`` on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from multimodal_graphs import dataset, values
from PIL import Image
from typer.testing import CliRunner

from pykeen_advneg.cli import app
from pykeen_advneg.errors import ConfigurationError, DivergenceError
from pykeen_advneg.multimodal.decoders import NumericDecoder, load_decoder
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory
from pykeen_advneg.multimodal.imputation import candidates, entity_embeddings, fit_decoder, predict
from pykeen_advneg.multimodal.imputed_files import write_grids
from pykeen_advneg.multimodal.mkbe import MKBE
from pykeen_advneg.multimodal.representation import MultimodalRepresentation
from pykeen_advneg.multimodal.saving import load_calibration, load_run, save_run

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


def test_half_a_run_is_no_run(tmp_path: Path) -> None:
    model = MKBE(triples_factory=TRAINING, embedding_dim=4, random_seed=0)
    save_run(model, TRAINING, tmp_path, calibration=DATA.testing)
    assert load_calibration(tmp_path) == DATA.testing
    with (
        mock.patch("pykeen_advneg.multimodal.saving.save_tensors", side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        save_run(model, TRAINING, tmp_path)
    with pytest.raises(ConfigurationError, match=r"no 'model.json'"):
        load_run(tmp_path)
    save_run(model, TRAINING, tmp_path)
    load_run(tmp_path)
    assert load_calibration(tmp_path) is None
    assert not list(tmp_path.glob("*.tmp*"))


def test_latent_semantics_are_those_of_the_training(tmp_path: Path) -> None:
    """Another release of what computes them may give others."""
    model = MKBE(triples_factory=TRAINING, embedding_dim=4, encoders={"title": "sentence"}, random_seed=0).eval()
    save_run(model, TRAINING, tmp_path)
    batch = TRAINING.of_attribute("title")
    with mock.patch("pykeen_advneg.multimodal.encoders.texts.latent_semantics") as compute:
        rows = model.entity_representations[0].encoders[list(TRAINING.attributes).index("title")].rows
        compute.return_value = torch.randn(rows.shape)
        loaded, _ = load_run(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.score_hrt(batch), model.score_hrt(batch))


def test_embeddings_are_looked_up_where_the_model_is() -> None:
    model = MKBE(triples_factory=TRAINING, embedding_dim=4, random_seed=0)
    seen = []

    def forward(indices: torch.Tensor) -> torch.Tensor:
        seen.append(indices.device.type)
        return torch.zeros(2, 4)

    with (
        mock.patch.object(MKBE, "device", torch.device("meta")),
        mock.patch.object(MultimodalRepresentation, "forward", side_effect=forward),
    ):
        assert entity_embeddings(model, torch.tensor([0, 1])).device.type == "cpu"
    assert seen == ["meta"]


def test_a_decoder_is_for_one_attribute_of_one_model(tmp_path: Path) -> None:
    model = MKBE(triples_factory=TRAINING, embedding_dim=4, random_seed=0)
    other = MKBE(triples_factory=TRAINING, embedding_dim=4, random_seed=1)
    wide = MKBE(triples_factory=TRAINING, embedding_dim=6, random_seed=0)
    ids = torch.tensor([0, 1])
    path = tmp_path / "decoder"
    fit_decoder(model, TRAINING, "job", epochs=1, use_tqdm=False).save(path)
    decoder = load_decoder(path)
    predict(decoder, model, TRAINING, "job", ids)
    renamed = dataset(num_users=16, num_films=12).training
    job = renamed.attributes["job"]
    renamed.attributes = {**renamed.attributes, "job": replace(job, labels=tuple(reversed(job.labels)))}
    for arguments, message in (
        ((model, TRAINING, "age"), "'job', not for 'age'"),
        ((other, TRAINING, "job"), "other weights"),
        ((wide, TRAINING, "job"), "reads 4 numbers, but embeddings have 6"),
        ((model, renamed, "job"), "other labels of 'job'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            predict(decoder, *arguments, ids)


def test_intervals_say_what_they_rest_on(caplog: pytest.LogCaptureFixture) -> None:
    model = MKBE(triples_factory=TRAINING, embedding_dim=4, random_seed=0)
    ids = torch.tensor([0, 1])
    seen = fit_decoder(model, TRAINING, "age", epochs=1, use_tqdm=False)
    frame, _ = predict(seen, model, TRAINING, "age", ids)
    assert np.isinf(frame["high"]).all()
    assert "1 rows calibrate them" in caplog.text
    # three users do not say their age in training
    decoder = fit_decoder(model, TRAINING, "age", calibration=DATA.testing, epochs=1, use_tqdm=False)
    assert (decoder.settings["held_out"], seen.settings["held_out"]) == (True, False)
    made, _ = predict(seen, model, TRAINING, "age", DATA.testing.of_attribute("age")[:, 0])
    ages = TRAINING.attributes["age"]
    true = ages.values[DATA.testing.of_attribute("age")[:, 2] - ages.start].numpy()
    errors = np.sort(np.abs(made["prediction"].to_numpy() - true))
    assert decoder.residuals.tolist() == pytest.approx(errors.tolist(), rel=1e-4)
    # what training has says nothing of what is new
    again = fit_decoder(model, TRAINING, "age", calibration=TRAINING, epochs=1, use_tqdm=False)
    assert not again.settings["held_out"]


def test_no_picture_is_left_out(tmp_path: Path) -> None:
    pictures = torch.arange(130).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    paths = write_grids(pictures, tmp_path / "p.png")
    assert [path.name for path in paths] == ["p.png", "p-2.png", "p-3.png"]
    with Image.open(paths[1]) as second, Image.open(paths[2]) as third:
        assert (second.size, third.size) == ((16, 16), (16, 2))
        assert second.getpixel((2, 0)) == (65, 65, 65)
        assert third.getpixel((2, 0)) == (129, 129, 129)


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
    assert ("may be too narrow" in result.output) == (attribute == "age")
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
    for arguments, message in (
        (["--attribute", "age", "--alpha", "2"], "alpha=2.0"),
        (["--attribute", "age", "--epochs", "0"], "--epochs"),
        (["--attribute", "job"], "No entity lacks a value of 'job'"),
        (["--attribute", "age", "--entities", "/dev/null"], "names none"),
    ):
        result = call("--run", str(folder), *out, *arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert not list(tmp_path.glob("*.safetensors")), "nothing is trained first"
    with mock.patch("pykeen_advneg.multimodal.impute_command.fit_decoder", side_effect=DivergenceError("has diverged")):
        result = call("--run", str(folder), "--attribute", "age", *out)
    assert (result.exit_code, result.output) == (1, "error: has diverged\n")
    (tmp_path / "who").write_text("nobody\n")
    result = call("--run", str(folder), "--attribute", "age", *out, "--entities", str(tmp_path / "who"))
    assert "'nobody' is no entity" in result.output


@pytest.mark.slow
def test_what_links_tell_is_filled_in() -> None:
    """Old users like war films: from the embeddings, the age is told better than by the mean."""
    from pykeen.pipeline import pipeline

    data = dataset("text", "images", "categorical", num_users=100, num_films=12, seed=3, held_out=30)
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
    assert len(held_out) == 30
    frame, _ = predict(decoder, result.model, training, "age", held_out[:, 0])
    true = attribute.values[held_out[:, 2] - attribute.start]
    made, wanted = frame["prediction"].to_numpy(), true.numpy()
    # which side of 45 they are on is what their links tell; chance has 24 of 30 right once in a thousand times
    assert ((made > 45) == (wanted > 45)).mean() >= 0.8
    assert np.square(made - wanted).mean() < 0.6 * np.square(attribute.mean - wanted).mean()
