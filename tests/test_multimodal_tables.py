"""Tables of links and values become triples; what is wrong with them is said with row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multimodal_graphs import dataset, tables, values
from PIL import Image
from pykeen.triples import LCWAInstances

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal.attributes import distinct
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory
from pykeen_advneg.multimodal.tables import Tables

LINKS = pd.DataFrame([("a", "knows", "b"), ("b", "knows", "c")], columns=["head", "relation", "tail"])
make = MultimodalTriplesFactory.from_tables


def test_ids_stand_behind_the_entities() -> None:
    factory = make(
        LINKS,
        numeric=values([("a", "height", 2), ("b", "height", 1.0), ("c", "height", 2.0)]),
        categorical=values([("a", "job", "smith"), ("b", "job", "clerk")]),
    )
    assert factory.num_link_entities == 3
    assert factory.num_link_relations == 1
    assert factory.value_ranges == {"height": range(3, 5), "job": range(5, 7)}
    assert factory.entity_id_to_label[3] == "height = 1.0"
    labelled = factory.label_triples(factory.mapped_triples).tolist()
    assert sorted(map(tuple, labelled)) == [
        ("a", "height", "height = 2.0"),
        ("a", "job", "job = smith"),
        ("a", "knows", "b"),
        ("b", "height", "height = 1.0"),
        ("b", "job", "job = clerk"),
        ("b", "knows", "c"),
        ("c", "height", "height = 2.0"),
    ]


def test_scores_are_fitted_on_training_rows() -> None:
    """Each row counts, not each distinct value; rows of evaluation do not count."""
    training = values([("a", "height", 2.0), ("b", "height", 2.0), ("c", "height", 5.0)])
    testing = Tables(numeric=values([("d", "height", 100.0)]))
    factory = make(LINKS, numeric=training, entities=["d"], others=[testing])
    attribute = factory.attributes["height"]
    assert attribute.mean == pytest.approx(3.0)
    assert attribute.std == pytest.approx(np.std([2.0, 2.0, 5.0]))
    expected = (np.array([2.0, 5.0, 100.0]) - 3.0) / np.std([2.0, 2.0, 5.0])
    assert attribute.z_scores.squeeze(-1).numpy() == pytest.approx(expected)
    mapped = factory.map_tables(testing).mapped_triples
    assert mapped.tolist() == [[factory.entity_to_id["d"], 1, factory.entity_to_id["height = 100.0"]]]
    assert len(factory.of_attribute("height")) == 3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_numbers_survive(numbers: list[float]) -> None:
    entities = [f"e{i}" for i in range(len(numbers))]
    rows = values([(e, "x", n) for e, n in zip(entities, numbers, strict=True)])
    factory = make(LINKS, numeric=rows, entities=entities)
    attribute = factory.attributes["x"]
    assert attribute.values is not None
    back = {int(h): attribute.values[int(t) - attribute.start].item() for h, _, t in factory.of_attribute("x")}
    assert back == {factory.entity_to_id[e]: n for e, n in zip(entities, numbers, strict=True)}
    assert len(attribute) == len(set(numbers))


def test_equal_numbers_have_no_deviation() -> None:
    """What rounding leaves of it is no unit: of 1,000 times 0.1, and one which is held out."""
    equal = distinct("age", "numeric", 0, [0.1] * 1000, [2.0])
    assert np.std([0.1] * 1000) > 0
    assert equal.std == 1.0
    assert equal.z_scores.flatten().tolist() == pytest.approx([0.0, 1.9])
    small = distinct("mass", "numeric", 0, [1e-30, 3e-30], [])
    assert small.std == pytest.approx(1e-30), "small numbers which differ do"


def test_dates_become_days() -> None:
    dates = values([("a", "born", pd.Timestamp("1970-01-11")), ("b", "born", pd.Timestamp("1969-12-31 12:00"))])
    factory = make(LINKS, numeric=dates)
    assert factory.attributes["born"].values.tolist() == [-0.5, 10.0]


def test_labels_of_an_entity_are_one_value() -> None:
    rows = [("a", "genre", "war"), ("a", "genre", "drama"), ("b", "genre", "drama"), ("c", "genre", "drama")]
    factory = make(LINKS, multi_hot=values(rows))
    attribute = factory.attributes["genre"]
    assert attribute.labels == ("drama", "war")
    tails = factory.of_attribute("genre")[:, 2] - attribute.start
    assert attribute.values[tails].tolist() == [[1, 1], [1, 0], [1, 0]]
    assert attribute.show(int(tails[0])) == "drama | war"


def test_pictures_from_files(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "images.tsv").write_text("a\tface\tred.png\n")
    factory = make(LINKS, images=tmp_path / "images.tsv", image_size=4)
    pixels = factory.attributes["face"].values
    assert pixels.shape == (1, 3, 4, 4)
    assert pixels[0, :, 0, 0].tolist() == [255, 0, 0]


def test_colours_come_first() -> None:
    bad = np.zeros((64, 48, 3))
    for array in (bad, bad.astype(np.uint8), np.zeros((2, 2, 3), dtype=np.uint8)):
        with pytest.raises(ConfigurationError, match="height, width, channels"):
            make(LINKS, images=values([("a", "photo", array)]))
    for array in (np.zeros((3, 64, 48)), np.zeros((512, 3, 3)), np.zeros((3, 64, 3), dtype=np.uint8)):
        assert make(LINKS, images=values([("a", "photo", array)])).attributes["photo"].values.shape[1:] == array.shape


def test_which_values_are_those_of_training(tmp_path: Path) -> None:
    training = Tables(
        LINKS,
        numeric=values([("a", "age", 3), ("b", "age", 1)]),
        multi_hot=values([("a", "genre", "war"), ("b", "genre", "drama")]),
        text=values([("a", "title", "x"), ("b", "title", "z")]),
        images=values([("a", "photo", np.zeros(2)), ("b", "photo", np.ones(2))]),
    )
    other = Tables(
        numeric=values([("c", "age", 2)]),
        multi_hot=values([("c", "genre", "war"), ("c", "genre", "drama")]),
        text=values([("c", "title", "y")]),
        images=values([("c", "photo", np.full(2, 9.0))]),
    )
    factory = MultimodalTriplesFactory.from_tables(
        **{name: getattr(training, name) for name in training.given()}, others=[other]
    )
    loaded = MultimodalTriplesFactory.from_path_binary(factory.to_path_binary(tmp_path / "graph"))
    for attributes in (factory.attributes, loaded.attributes):
        assert attributes["age"].training_positions.tolist() == [0, 2]
        assert attributes["title"].training_positions.tolist() == [0, 2]
        # drama, war; drama and war at once is none of training
        assert [attributes["genre"].show(i) for i in attributes["genre"].training_positions.tolist()] == [
            "war",
            "drama",
        ]
        assert attributes["photo"].training_positions.tolist() == [0, 1]


def test_files_are_frames(tmp_path: Path) -> None:
    LINKS.to_csv(tmp_path / "links.tsv", sep="\t", index=False, header=False)
    values([("a", "height", 1.5)]).to_csv(tmp_path / "numbers.tsv.gz", sep="\t", index=False)
    ours = make(tmp_path / "links.tsv", numeric=str(tmp_path / "numbers.tsv.gz"))
    assert ours.mapped_triples.tolist() == make(LINKS, numeric=values([("a", "height", 1.5)])).mapped_triples.tolist()


def test_saved_and_loaded(tmp_path: Path) -> None:
    training = dataset().training
    assert isinstance(training, MultimodalTriplesFactory)
    training.to_path_binary(tmp_path / "saved")
    loaded = MultimodalTriplesFactory.from_path_binary(tmp_path / "saved")
    assert loaded == training
    assert loaded.entity_to_id == training.entity_to_id
    assert loaded.value_ranges == training.value_ranges
    for name, attribute in training.attributes.items():
        other = loaded.attributes[name]
        assert (other.kind, other.labels, other.mean, other.std) == (
            attribute.kind,
            attribute.labels,
            attribute.mean,
            attribute.std,
        )
        assert (other.values is None) == (attribute.values is None)
        assert other.values is None or torch.equal(other.values, attribute.values)


def test_damaged_file(tmp_path: Path) -> None:
    dataset().training.to_path_binary(tmp_path)
    path = tmp_path / MultimodalTriplesFactory.file_name_attributes
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        MultimodalTriplesFactory.from_path_binary(tmp_path)


def test_a_split_keeps_the_attributes() -> None:
    training = dataset().training
    first, second = training.split(0.5, random_state=0)
    assert isinstance(first, MultimodalTriplesFactory)
    assert first.value_ranges == second.value_ranges == training.value_ranges


def test_only_links_have_inverses() -> None:
    factory = make(LINKS, numeric=values([("a", "height", 1)]), create_inverse_triples=True)
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)
    assert sorted(triples.tolist()) == [[0, 0, 1], [0, 2, 3], [1, 0, 2], [1, 1, 0], [2, 1, 1]]
    assert factory.num_relations == 4
    assert len(LCWAInstances.from_triples_factory(factory)) == 5


def test_all_kinds_together() -> None:
    data = dataset()
    assert data.testing.num_entities == data.training.num_entities
    assert list(data.training.attributes) == ["age", "job", "genre", "title", "poster"]
    assert len(data.testing.of_attribute("age")) == 3
    assert data.training.num_triples == len(data.training.of_links()) + 9 + 12 + 10 + 10 + 10


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("missing column", {"numeric": pd.DataFrame({"entity": ["a"], "attribute": ["x"]})}, r"numeric: .*'value'"),
    ("no number", {"numeric": values([("a", "x", 1), ("b", "x", "tall")])}, r"row 1, column 'value': 'tall'"),
    ("infinity", {"numeric": values([("a", "x", float("inf"))])}, r"row 0, column 'value': .*finite"),
    ("nothing", {"numeric": values([("a", "x", None)])}, r"row 0, column 'value'.*missing"),
    ("no date", {"numeric": values([("a", "x", pd.Timestamp("2000-01-01")), ("b", "x", pd.NaT)])}, r"row 1.*missing"),
    ("twice", {"text": values([("a", "x", "one"), ("b", "x", "one"), ("a", "x", "two")])}, r"row 2.*first in row 0"),
    ("unknown", {"categorical": values([("z", "x", "one")])}, r"row 0, column 'entity': 'z' is no entity"),
    ("blank", {"text": values([("a", "x", " ")])}, r"row 0, column 'value'.*missing"),
    ("relation", {"text": values([("a", "knows", "x")])}, r"'knows' is a relation"),
    ("two kinds", {"text": values([("a", "x", "1")]), "numeric": values([("a", "x", 1)])}, r"numeric and text"),
    ("no picture", {"images": values([("a", "x", "no/such.png")])}, r"row 0, column 'value'.*cannot be read"),
    ("letters", {"images": values([("a", "x", np.array(["a"]))])}, r"row 0, column 'value'.*no array"),
    ("shapes", {"images": values([("a", "x", np.zeros(2)), ("b", "x", np.zeros(3))])}, r"one shape"),
    ("no file", {"text": "no/such/file.tsv"}, r"text: the file"),
]


@pytest.mark.parametrize(("kwargs", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_tables(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(LINKS, **kwargs)


def test_lines_are_counted_from_one(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("entity\tattribute\tvalue\na\tx\t1\nb\tx\tone\n")
    with pytest.raises(ConfigurationError, match=r"line 3, column 'value': 'one'"):
        make(LINKS, numeric=tmp_path / "x.tsv")
    (tmp_path / "two.tsv").write_text("a\tx\n")
    with pytest.raises(ConfigurationError, match="has 2 columns"):
        make(LINKS, numeric=tmp_path / "two.tsv")


def test_unknown_entities_can_be_dropped() -> None:
    rows = values([("z", "x", 1), ("a", "x", 2)])
    assert len(make(LINKS, numeric=rows, unknown="drop").of_attribute("x")) == 1


def test_values_without_ids() -> None:
    factory = make(LINKS, numeric=values([("a", "x", 1)]))
    with pytest.raises(ConfigurationError, match=r"row 0, column 'value': .*others"):
        factory.map_tables(Tables(numeric=values([("b", "x", 7)])))
    with pytest.raises(ConfigurationError, match=r"column 'attribute'"):
        factory.map_tables(Tables(numeric=values([("b", "y", 1)])))
    with pytest.raises(ConfigurationError, match="no training rows"):
        make(LINKS, others=[Tables(text=values([("a", "x", "one")]))])


def test_names_of_values_do_not_collide() -> None:
    links = pd.DataFrame([("x = 1.0", "knows", "b")])
    with pytest.raises(ConfigurationError, match="name of an entity"):
        make(links, numeric=values([("b", "x", 1)]))


def test_unseen_labels_have_no_id() -> None:
    factory = make(LINKS, multi_hot=values([("a", "genre", "war")]))
    with pytest.raises(ConfigurationError, match="has no id"):
        factory.map_tables(Tables(multi_hot=values([("b", "genre", "peace")])))
    training, testing = tables()
    assert training.given() == ["links", "numeric", "categorical", "multi_hot", "text", "images"]
    assert testing.given() == ["links", "numeric"]
