"""The data sets by name, on files made here with the layout of the publishers' ones."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from pykeen.datasets import dataset_resolver, get_dataset

from pykeen_advneg.datasets import LabeledSplits
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import datasets
from pykeen_advneg.multimodal.datasets import FB15k237Numeric, MovieLens100K, rating_relations
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory

FILES = {
    "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n3|24|M|writer|85002\n",
    "u.item": (
        "1|Toy Story (1995)|01-Jan-1995||http://x|" + "|".join("0001" + "0" * 15) + "\n"
        "2|unknown|||http://x|" + "|".join("1" + "0" * 18) + "\n"
        "3|Caf\xe9 (1996)|02-Jan-1995||http://x|" + "|".join("0011" + "0" * 15) + "\n"
    ),
    "u.genre": "".join(f"g{i}|{i}\n" for i in range(19)) + "\n",
    "u1.base": "1\t1\t5\t1\n1\t2\t3\t2\n2\t1\t1\t3\n2\t2\t4\t3\n",
    "u1.test": "1\t3\t2\t1\n",
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "movielens100k" / "ml-100k"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    return tmp_path


def check(data: Any) -> None:
    training = data.training
    assert isinstance(training, MultimodalTriplesFactory)
    assert list(training.attributes) == ["age", "release_date", "gender", "occupation", "zip", "genre", "title"]
    assert training.num_link_entities == 6, "films without ratings in training, too"
    titles = training.attributes["title"].labels
    assert titles == ("Caf\xe9", "Toy Story", "unknown")
    assert len(training.of_attribute("release_date")) == 2, "a missing date has no row"
    assert training.attributes["zip"].labels == ("85", "T8")
    assert training.attributes["genre"].labels == ("g0", "g2", "g3")
    assert len(training.of_links()) == 4
    assert set(rating_relations(training).values()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert data.testing.label_triples(data.testing.mapped_triples).tolist() == [["user/1", "rate_2", "movie/3"]]


def test_movielens(cache: Path) -> None:
    check(MovieLens100K(cache_root=cache))


def test_movielens_from_the_archive(cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "movielens100k").mkdir(parents=True)
    with zipfile.ZipFile(other / "movielens100k" / "ml-100k.zip", "w") as archive:
        for path in (cache / "movielens100k" / "ml-100k").iterdir():
            archive.write(path, f"ml-100k/{path.name}")
    check(MovieLens100K(cache_root=other))


def test_movielens_by_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyKEEN keeps its own copy, which has the attributes, too."""
    monkeypatch.setattr("pykeen.datasets.utils.PYKEEN_DATASETS", cache / "pykeen")
    for _ in range(2):
        data = get_dataset(dataset="movielens100k", dataset_kwargs={"cache_root": str(cache)})
        check(data)
    data = get_dataset(dataset="movielens100k", dataset_kwargs={"cache_root": str(cache), "attributes": ["age"]})
    assert list(data.training.attributes) == ["age"], "other arguments, another copy"


def test_choices(cache: Path) -> None:
    ratings = MovieLens100K(cache_root=cache, attributes=(), validation_share=0.25)
    assert not ratings.training.attributes
    assert (ratings.training.num_triples, ratings.validation.num_triples) == (3, 1)
    posters = cache / "posters"
    posters.mkdir()
    for name in ("1.png", "9.png"):
        Image.new("RGB", (4, 4)).save(posters / name)
    Image.new("RGB", (4, 4), "red").save(posters / "2.JPEG")
    data = MovieLens100K(cache_root=cache, attributes=("age",), posters=posters, image_size=8)
    assert data.training.attributes["poster"].values.shape == (2, 3, 8, 8)
    for name in ("1.png", "2.JPEG"):
        (posters / name).unlink()
    with pytest.raises(ConfigurationError, match="no picture of a film"):
        MovieLens100K(cache_root=cache, attributes=("age",), posters=posters).training  # noqa: B018


def test_errors(cache: Path, tmp_path: Path) -> None:
    for kwargs, message in (
        ({"fold": 6}, "fold=6"),
        ({"attributes": ["plot"]}, "plot"),
        ({"validation_share": 1}, "1"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            MovieLens100K(cache_root=cache, **kwargs)
    (cache / "movielens100k" / "ml-100k" / "u.user").unlink()
    with pytest.raises(ConfigurationError, match=r"'u.user' cannot be read"):
        MovieLens100K(cache_root=cache).training  # noqa: B018
    empty = tmp_path / "empty"
    with (
        mock.patch("pystow.utils.download", side_effect=OSError("no network")),
        pytest.raises(ConfigurationError, match=r"no network.*put it at"),
    ):
        MovieLens100K(cache_root=empty).training  # noqa: B018
    assert not list(empty.rglob("*.zip*")), "nothing half-done is left"


def numbers(cache: Path) -> list[str]:
    rng = np.random.default_rng(0)
    name = "<http://rdf.freebase.com/ns/people.person.height_meters>"
    return [f"/m/{i}\t{name}\t{rng.normal():.3f}\n" for i in range(20)] + ["/m/unknown\t" + name + "\t1\n"]


def test_numeric(tmp_path: Path) -> None:
    (tmp_path / "FB15K_NumericalTriples.txt").write_text("".join(numbers(tmp_path)))
    links = np.array([[f"/m/{i}", "/r", f"/m/{(i + 1) % 20}"] for i in range(20)])
    splits = LabeledSplits(links[:14], links[14:17], links[17:])
    with (
        mock.patch("pykeen_advneg.datasets.read_splits", return_value=splits),
        mock.patch.object(FB15k237Numeric, "_help_cache", return_value=tmp_path),
    ):
        data = FB15k237Numeric(held_out=0.2)
        name = "people.person.height_meters"
        assert [len(f.of_attribute(name)) for f in data.factory_dict.values()] == [16, 2, 2]
        assert [len(f.of_links()) for f in data.factory_dict.values()] == [14, 3, 3]
        everything = [tuple(x) for f in data.factory_dict.values() for x in f.of_attribute(name).tolist()]
        assert len(set(everything)) == 20
        assert not FB15k237Numeric(attributes=()).training.attributes
        with pytest.raises(ConfigurationError, match="'age' is none of"):
            FB15k237Numeric(attributes=["age"]).training  # noqa: B018
    with pytest.raises(ConfigurationError, match="held_out"):
        FB15k237Numeric(held_out=1.0)


def test_known_by_name() -> None:
    assert dataset_resolver.lookup("fb15k237numeric") is FB15k237Numeric
    assert dataset_resolver.lookup("movielens100k") is MovieLens100K
    assert datasets.MultimodalTriplesFactory is MultimodalTriplesFactory


@pytest.mark.slow
@pytest.mark.data("fb15k237")
def test_the_real_numbers(needs_data: Callable[[str], Path]) -> None:
    folder = needs_data("fb15k237numeric")
    data = FB15k237Numeric(cache_root=folder.parent)
    count = sum(f.num_triples - len(f.of_links()) for f in data.factory_dict.values())
    assert (count, len(data.training.attributes), data.training.num_link_entities) == (29247, 116, 14541)
