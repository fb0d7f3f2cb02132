"""Encoders of values, and the representation of entities and values: against slow twins, in any batch."""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from multimodal_graphs import dataset, values
from pykeen.nn.modules import DistMultInteraction
from pykeen.optimizers import optimizer_resolver
from pykeen.triples import TriplesFactory
from torch import nn

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal.attributes import Attribute
from pykeen_advneg.multimodal.encoders import ValueEncoder, default_encoder, encoder_resolver
from pykeen_advneg.multimodal.encoders.texts import CharacterGRUEncoder, latent_semantics
from pykeen_advneg.multimodal.encoders.tokens import Vocabulary, characters, words
from pykeen_advneg.multimodal.factory import MultimodalTriplesFactory
from pykeen_advneg.multimodal.mkbe import MKBE
from pykeen_advneg.multimodal.representation import MultimodalRepresentation
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.attributetyped import AttributeTypedNegativeSampler
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.training.rows import row_wise

FACTORY: MultimodalTriplesFactory = dataset().training
MAPS = Attribute("maps", "images", 0, torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)))

#: encoder, attribute, keyword-based parameters
ENCODERS: list[tuple[str, Attribute, dict[str, Any]]] = [
    ("numeric", FACTORY.attributes["age"], {}),
    ("numeric", FACTORY.attributes["age"], {"num_layers": 3, "activation": "selu"}),
    ("multihot", FACTORY.attributes["genre"], {}),
    ("category", FACTORY.attributes["job"], {}),
    ("charactergru", FACTORY.attributes["title"], {}),
    ("charactergru", FACTORY.attributes["title"], {"num_layers": 3}),
    ("wordcnn", FACTORY.attributes["title"], {}),
    ("sentence", FACTORY.attributes["title"], {"width": 4}),
    ("picture", FACTORY.attributes["poster"], {"num_layers": 2}),
    ("featuremap", MAPS, {"channels": 3}),
    ("feature", FACTORY.attributes["genre"], {}),
]
every_encoder = pytest.mark.parametrize(
    ("name", "attribute", "kwargs"), ENCODERS, ids=[f"{name}-{len(kwargs)}" for name, _, kwargs in ENCODERS]
)


def make(name: str, attribute: Attribute, kwargs: dict[str, Any], shape: int = 7) -> ValueEncoder:
    torch.manual_seed(0)
    return encoder_resolver.make(name, kwargs, attribute=attribute, shape=shape)


@every_encoder
def test_every_encoder(name: str, attribute: Attribute, kwargs: dict[str, Any]) -> None:
    """Nothing, one, several, repeated, all: the vector of a value does not depend on its batch."""
    encoder = make(name, attribute, kwargs)
    n = len(attribute)
    every = encoder()
    assert every.shape == (n, 7)
    assert encoder(torch.empty(0, dtype=torch.long)).shape == (0, 7)
    ids = torch.tensor([[n - 1, 0], [0, n // 2]])
    assert torch.allclose(encoder(ids), every[ids], atol=1e-5)
    assert torch.allclose(encoder.encode(ids[0, :1]), every[ids[0, :1]], atol=1e-5)
    assert float(every.detach().std(dim=0).max()) > 1e-3, "values differ"
    every.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())
    before = copy.deepcopy(encoder.state_dict())
    encoder.reset_parameters()
    changed = [key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])]
    # latent semantics may come out otherwise elsewhere, and are kept; all else is drawn anew, or comes with the graph
    data = {"rows"} if name == "sentence" else set()
    assert set(changed) == set(before) - data
    assert {"rows", "tokens", "lengths", "maps"} & set(before) == data


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_gated_units_by_hand(num_layers: int) -> None:
    """One text at a time, without packing, both directions in full: the first time step of the last layer."""
    attribute = FACTORY.attributes["title"]
    encoder = make("charactergru", attribute, {"num_layers": num_layers})
    assert isinstance(encoder, CharacterGRUEncoder)
    width = encoder.forward_cell.input_size
    last = nn.GRU(width, 7, bidirectional=True, batch_first=True)
    weights = {name + "_l0": value for name, value in encoder.forward_cell.named_parameters()}
    weights |= {name + "_reverse": value for name, value in encoder.backward_layer.named_parameters()}
    last.load_state_dict(weights)
    vocabulary = Vocabulary(attribute.labels, characters, 200)
    for i, text in enumerate(attribute.labels):
        x = encoder.embedding(torch.tensor([[vocabulary.ids[token] for token in ["<go>", *text, "<eos>"]]]))
        for place, layer in enumerate(encoder.layers):
            x, _ = layer(x)
            if place:
                x = (x[..., :7] + x[..., 7:]) / 2
        x, _ = last(x)
        assert torch.allclose(encoder(torch.tensor([i]))[0], (x[0, 0, :7] + x[0, 0, 7:]) / 2, atol=1e-5)


def test_tokens() -> None:
    texts = ["Big red dog!", "a dog"]
    vocabulary = Vocabulary(texts, words, max_length=3, max_tokens=4)
    # the most frequent ones have ids, ties by the alphabet; behind padding and unknown
    assert vocabulary.tokens == ("<pad>", "<oov>", "dog", "!")
    tokens, lengths = vocabulary.encode(texts)
    # the last token, which may mark the end, is kept
    assert tokens.tolist() == [[1, 1, 3], [1, 2, 0]]
    assert lengths.tolist() == [3, 2]
    assert characters("ab") == ["<go>", "a", "b", "<eos>"]


def test_sentences_of_ones_own() -> None:
    attribute = FACTORY.attributes["title"]
    asked = []

    def embed(texts: Any) -> torch.Tensor:
        asked.append(tuple(texts))
        return torch.randn(len(texts), 5)

    make("sentence", attribute, {"embed": embed})
    assert asked == [attribute.labels]
    assert latent_semantics(["one"], 8, ["one"]).shape[0] == 1
    texts = ["red dog runs", "red dog sits", "blue house"]
    one, near, far = latent_semantics(texts, 2, texts)
    assert one @ near > one @ far


def test_held_out_values_have_no_say() -> None:
    """What is fitted to values is fitted to those of training."""
    seen = torch.tensor([True, True, True, False])
    words_of = ("red dog", "red cat", "blue dog", "Zebra zebra")
    texts = Attribute("t", "text", 0, None, words_of, seen)
    without = Attribute("t", "text", 0, None, words_of[:3])
    for name in ("charactergru", "wordcnn", "sentence"):
        all_four, three = make(name, texts, {}), make(name, without, {})
        assert torch.allclose(all_four()[:3], three(), atol=1e-5), name
    vectors = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [100.0, -70.0]])
    rows = make("feature", Attribute("v", "images", 0, vectors, (), seen), {}).rows
    assert torch.allclose(rows[:3].mean(dim=0), torch.zeros(2), atol=1e-6)
    assert float(rows[:3, 0].std(unbiased=False)) == pytest.approx(1.0)


def test_many_values_are_encoded_in_parts() -> None:
    attribute = Attribute("n", "numeric", 0, torch.arange(2500.0).double(), (), None, 1250.0, 700.0)
    encoder = make("numeric", attribute, {})
    with mock.patch.object(encoder, "encode", side_effect=encoder.encode) as encode:
        every = encoder()
    assert [len(call.args[0]) for call in encode.call_args_list] == [1024, 1024, 452]
    assert torch.allclose(every, encoder.encode(torch.arange(2500)), atol=1e-5)


def test_defaults() -> None:
    chosen = {name: default_encoder(attribute) for name, attribute in FACTORY.attributes.items()}
    assert chosen == {
        "age": "numeric",
        "job": "category",
        "genre": "multihot",
        "title": "charactergru",
        "poster": "picture",
    }
    assert default_encoder(Attribute("x", "text", 0, None, ("long " * 30,))) == "wordcnn"
    assert default_encoder(MAPS) == "featuremap"
    assert default_encoder(Attribute("x", "images", 0, torch.zeros(2, 3))) == "feature"


@pytest.mark.parametrize(
    ("name", "attribute", "message"),
    [
        ("numeric", "title", "reads numeric"),
        ("charactergru", "age", "reads text"),
        ("picture", "age", "reads images"),
        ("feature", "poster", "a vector for each"),
    ],
)
def test_what_an_encoder_cannot_read(name: str, attribute: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(name, FACTORY.attributes[attribute], {})


def representation(dtype: torch.dtype | None = None, **kwargs: Any) -> MultimodalRepresentation:
    torch.manual_seed(0)
    made = MultimodalRepresentation(
        max_id=FACTORY.num_entities, shape=6, attributes=list(FACTORY.attributes.values()), dtype=dtype, **kwargs
    )
    for module in made.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made


def slow(made: MultimodalRepresentation, i: int) -> torch.Tensor:
    """One id at a time."""
    if i < FACTORY.num_link_entities:
        return made.entities(torch.tensor([i]))[0]
    for attribute, encoder in zip(FACTORY.attributes.values(), made.encoders, strict=True):
        if i in attribute.ids:
            x = encoder(torch.tensor([i - attribute.start]))[0]
            return torch.complex(x[::2], x[1::2]) if made.is_complex else x
    raise AssertionError(i)


@pytest.mark.parametrize("dtype", [None, torch.cfloat])
def test_representation(dtype: torch.dtype | None) -> None:
    made = representation(dtype)
    expected = torch.stack([slow(made, i) for i in range(FACTORY.num_entities)])
    assert torch.allclose(made(), expected, atol=1e-5)
    ids = torch.randint(FACTORY.num_entities, (5, 4), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(made(ids), expected[ids], atol=1e-5)
    assert made(ids[:0]).shape == (0, 4, 6)
    with torch.no_grad():
        assert torch.allclose(made.eval()(), expected, atol=1e-5)


def test_each_value_is_encoded_once_and_only_if_asked_for() -> None:
    made = representation()
    age, title = FACTORY.value_ranges["age"], FACTORY.value_ranges["title"]
    ids = torch.tensor([0, age[1], 3, age[1], age[0], 0, age[1]])
    encoders = dict(zip(FACTORY.attributes, made.encoders, strict=True))
    seen: dict[str, list[int]] = {}
    for name, encoder in encoders.items():
        original = encoder.encode
        encoder.encode = mock.Mock(
            side_effect=lambda x, n=name, f=original: (seen.setdefault(n, []).extend(x.tolist()), f(x))[1]
        )
    made(ids)
    assert seen == {"age": [0, 1]}
    made(torch.tensor([0, title[2]]))
    assert seen["title"] == [2]


def test_a_regularizer_sees_what_is_asked_for() -> None:
    """Values alone ask for no entity: the mean of nothing would be no number, and end the training."""
    kwargs = {"regularizer": "lp", "regularizer_kwargs": {"weight": 1.0, "p": 2.0, "normalize": True}}
    made = representation(entity_kwargs=kwargs, encoders_kwargs={"age": kwargs})
    assert not made.encodes_jointly
    assert not representation(encoders_kwargs={"age": kwargs}).encodes_jointly
    entities, ages = made.entities, made.encoders[0]
    age = torch.tensor(FACTORY.value_ranges["age"][:2])
    made(age)
    made(age[:0])
    assert float(entities.regularizer.term.detach()) == 0
    assert float(ages.regularizer.term.detach()) > 0
    made(torch.tensor([0]))
    assert 0 < float(entities.regularizer.term.detach()) < float("inf")


def test_an_encoder_may_normalize() -> None:
    """In a batch as for all values."""
    made = representation(encoders_kwargs={"age": {"normalizer": torch.nn.functional.normalize}})
    ids = torch.tensor([[0, *FACTORY.value_ranges["age"][:3]]])
    assert torch.allclose(made(ids), made()[ids], atol=1e-6)
    assert torch.allclose(made(ids)[0, 1:].norm(dim=-1), torch.ones(3), atol=1e-5)


def test_kept_values_follow_the_weights() -> None:
    made = representation().eval()
    with torch.inference_mode():
        first = made().clone()
        with mock.patch.object(type(made.encoders[0]), "encode", side_effect=AssertionError):
            assert torch.equal(made(), first)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.0)
        changed = made()
    assert not torch.allclose(changed, first)
    copy.deepcopy(made)
    assert torch.allclose(changed, torch.stack([slow(made, i) for i in range(FACTORY.num_entities)]), atol=1e-5)


def test_unknown_attributes() -> None:
    with pytest.raises(ConfigurationError, match="'colour', which is no attribute"):
        representation(encoders={"colour": "numeric"})
    with pytest.raises(ConfigurationError, match="encoders_kwargs has 'colour'"):
        representation(encoders_kwargs={"colour": {}})


@pytest.mark.parametrize("interaction", ["distmult", "complex", "transe", "conve", "rotate"])
def test_scores_are_those_of_the_interaction(interaction: str) -> None:
    kwargs = {"interaction_kwargs": {"p": 1}} if interaction == "transe" else {}
    model = MKBE(triples_factory=FACTORY, embedding_dim=16, interaction=interaction, random_seed=0, **kwargs).eval()
    batch = FACTORY.mapped_triples[::7]
    with torch.no_grad():
        every = model.entity_representations[0]()
        several = [r()[batch[:, 2]] for r in model.entity_representations[1:]]
        relation = model.relation_representations[0]()[batch[:, 1]]
        tail = [every[batch[:, 2]], *several] if several else every[batch[:, 2]]
        head = every[batch[:, 0]]
        expected = model.interaction.score_hrt(h=head, r=relation, t=tail)
        assert torch.allclose(model.score_hrt(batch), expected, atol=1e-5)


@pytest.mark.parametrize("interaction", ["distmult", "complex"])
def test_a_batch_encodes_a_value_once(interaction: str) -> None:
    """Heads, tails, and negatives are looked up together, and get the scores they should."""
    model = MKBE(triples_factory=FACTORY, embedding_dim=8, interaction=interaction, random_seed=0)
    sampler = AttributeTypedNegativeSampler(
        mapped_triples=FACTORY.mapped_triples,
        num_entities=FACTORY.num_entities,
        num_negs_per_pos=3,
        side="uniform",
        relation_groups=[[0, 1]],
        relation_share=0.3,
    )
    negatives = sampler.propose(FACTORY.mapped_triples)
    typed = Negatives(negatives.positives, negatives.ids[:, 1:], negatives.column[:, 1:])
    title = model.entity_representations[0].encoders[list(FACTORY.attributes).index("title")]
    with mock.patch.object(title, "encode", side_effect=title.encode) as encode:
        positive, negative = Scorer(model).both(typed)
        assert encode.call_count == 1
    assert torch.allclose(positive, model.score_hrt(typed.positives), atol=1e-5)
    assert torch.allclose(negative, model.score_hrt(typed.triples.view(-1, 3)).view(negative.shape), atol=1e-5)
    kwargs = {"regularizer": "powersum", "regularizer_kwargs": {"weight": 1.0, "p": 2.0}}
    regularized = MKBE(triples_factory=FACTORY, embedding_dim=8, entity_kwargs=kwargs, random_seed=0)
    assert not regularized.entity_representations[0].encodes_jointly
    positive, negative = Scorer(regularized).both(negatives)
    assert torch.allclose(positive, regularized.score_hrt(negatives.positives), atol=1e-5)
    assert torch.allclose(
        negative, regularized.score_hrt(negatives.triples.view(-1, 3)).view(negative.shape), atol=1e-5
    )


def test_all_weights_are_drawn_anew() -> None:
    """Training starts with a reset, which must reach the encoders."""
    model = MKBE(triples_factory=FACTORY, embedding_dim=8, random_seed=0)
    before = copy.deepcopy(model.state_dict())
    model.reset_parameters_()
    weights = [key for key, value in before.items() if value.is_floating_point() and float(value.std()) > 0]
    assert len(weights) > 10
    assert [key for key in weights if torch.equal(before[key], model.state_dict()[key])] == []


def test_relations_of_rotate_are_rotations() -> None:
    model = MKBE(triples_factory=FACTORY, embedding_dim=8, interaction="rotate", random_seed=0)
    relations = model.relation_representations[0]
    assert torch.allclose(relations().abs(), torch.ones(FACTORY.num_relations, 8), atol=1e-5)
    with torch.no_grad():
        relations._embeddings.weight.mul_(3.0)
    model.post_parameter_update()
    assert torch.allclose(relations().abs(), torch.ones(FACTORY.num_relations, 8), atol=1e-5)
    free = MKBE(triples_factory=FACTORY, embedding_dim=8, interaction="rotate", relation_kwargs={"constrainer": None})
    assert free.relation_representations[0].constrainer is None


def test_large_vocabularies_are_trained_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykeen_advneg.training.rows.MANY_ROWS", 5)
    model = MKBE(triples_factory=FACTORY, embedding_dim=8, random_seed=0)
    letters = model.entity_representations[0].encoders[list(FACTORY.attributes).index("title")].embedding
    optimizer = optimizer_resolver.make("sparseadagrad", params=model.get_grad_params())
    with row_wise(model, lambda: optimizer):
        model.entity_representations[0](torch.tensor(FACTORY.value_ranges["title"])).sum().backward()
        assert letters.weight.grad.is_sparse
    assert not letters.sparse


def test_a_plain_graph_is_refused() -> None:
    plain = TriplesFactory.from_labeled_triples(np.array([["a", "r", "b"]]))
    with pytest.raises(ConfigurationError, match="MultimodalTriplesFactory"):
        MKBE(triples_factory=plain)


def test_parameters_of_the_interaction() -> None:
    with pytest.raises(ConfigurationError, match=r"interaction_kwargs=.*TransE"):
        MKBE(triples_factory=FACTORY, interaction="transe")


def test_matrices_are_refused() -> None:
    with (
        mock.patch.object(DistMultInteraction, "entity_shape", ("dk",)),
        pytest.raises(ConfigurationError, match="values are vectors"),
    ):
        MKBE(triples_factory=FACTORY, interaction="distmult", embedding_dim=4)


def test_links_alone() -> None:
    """Without attributes, the model is that of its interaction."""
    links = values([("a", "r", "b")]).set_axis(["head", "relation", "tail"], axis=1)
    factory = MultimodalTriplesFactory.from_tables(links)
    model = MKBE(triples_factory=factory, embedding_dim=4)
    assert model.score_t(torch.tensor([[0, 0]])).shape == (1, 2)
    model.eval()
    with torch.no_grad():
        assert model.predict_t(torch.tensor([[0, 0]])).shape == (1, 2)
