"""Each fast form against the scores of the model on explicit triples, in values and in gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.models import RGCN, ComplEx, DistMult, ERModel, FixedModel, InductiveNodePiece, RotatE, SimplE, TransE
from pykeen.nn import modules
from pykeen.nn.modules import Interaction, interaction_resolver
from pykeen.triples import KGInfo, TriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, LongTensor
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pykeen_advneg.models import UnclampedTransDInteraction
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.queries import Distance, Encoded, Grouped, Layout, Looked, forms_table, layouts, looked, query_form
from pykeen_advneg.scoring import Scorer

COLUMNS = (COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL)
B, K, CHUNK = 11, 5, 4
TRIPLES = Nations().training

#: the size of each symbolic dimension; those which an interaction multiplies with each other agree
SIZES = {"d": 6, "e": 4, "f": 5, "k": 4, "s": 1}

#: what each interaction needs to be made, if anything
ARGUMENTS: dict[type[Interaction], dict[str, Any]] = {
    modules.AutoSFInteraction: {"coefficients": [(0, 0, 0, 1), (0, 1, 1, -1), (1, 0, 1, 1)], "num_blocks": 3},
    modules.BoxEInteraction: {"p": 2},
    modules.ClampedInteraction: {"base": "simple", "clamp_score": 0.5},
    modules.ConvEInteraction: {"embedding_dim": 6, "output_channels": 2, "kernel_width": 2, "kernel_height": 1},
    modules.ConvKBInteraction: {"embedding_dim": 6, "num_filters": 3, "hidden_dropout_rate": 0.3},
    modules.CrossEInteraction: {"embedding_dim": 6},
    modules.DirectionAverageInteraction: {"base": "transf"},
    modules.ERMLPEInteraction: {"embedding_dim": 6, "hidden_dim": 5},
    modules.ERMLPInteraction: {"embedding_dim": 6, "hidden_dim": 5},
    modules.MonotonicAffineTransformationInteraction: {
        "base": modules.TransEInteraction(p=1),
        "initial_bias": 0.5,
        "initial_scale": 2.0,
    },
    modules.MultiLinearTuckerInteraction: {"head_dim": 6, "relation_dim": 4, "tail_dim": 5},
    modules.ProjEInteraction: {"embedding_dim": 6, "outer_activation": nn.Sigmoid},
    modules.TransformerInteraction: {"input_dim": 6, "num_heads": 2, "num_layers": 1, "dim_feedforward": 4},
    modules.TuckERInteraction: {"embedding_dim": 6},
}

#: further settings which change how the score is computed
VARIANTS: list[tuple[type[Interaction], dict[str, Any]]] = [
    *((cls, {"p": p, "power_norm": power}) for cls in
      (modules.TransEInteraction, modules.TorusEInteraction, modules.PairREInteraction, modules.UMInteraction,
       modules.TransHInteraction, UnclampedTransDInteraction)
      for p in (1, 2) for power in (False, True)),
    (modules.TransEInteraction, {"p": 3}),
    (modules.MuREInteraction, {"p": 1}),
    (modules.TripleREInteraction, {"u": None, "p": 2}),
    (modules.TuckERInteraction, {"embedding_dim": 6, "apply_batch_normalization": False}),
    (modules.ClampedInteraction, {"base": "transe", "base_kwargs": {"p": 2}}),
    (modules.DirectionAverageInteraction, {"base": "transe", "base_kwargs": {"p": 2}}),
    (modules.DirectionAverageInteraction, {"base": "complex"}),
]  # fmt: skip


def make_interaction(cls: type[Interaction], **kwargs: Any) -> Interaction:
    """Make an interaction from what was given, else from what it needs."""
    kwargs = kwargs or ARGUMENTS.get(cls, {})
    if issubclass(cls, modules.NormBasedInteraction):
        kwargs = {"p": 2, **kwargs}
    return cls(**kwargs)


ALL = [(cls, {}) for cls in sorted(interaction_resolver, key=lambda cls: cls.__name__)] + VARIANTS
every_interaction = pytest.mark.parametrize(
    ("cls", "kwargs"), ALL, ids=["-".join([cls.__name__, *map(str, kwargs.values())]) for cls, kwargs in ALL]
)


def make_model(interaction: Interaction, triples_factory: KGInfo = TRIPLES, **kwargs: Any) -> ERModel:
    """Make a model on a small graph, with random parameters, in double precision."""
    torch.manual_seed(0)
    shapes = interaction.entity_shape, interaction.relation_shape
    if isinstance(interaction, modules.DirectionAverageInteraction):
        shapes = ("d", "d"), ("d", "d")
        interaction.entity_shape, interaction.relation_shape = shapes  # which PyKEEN leaves to its subclasses
    base = getattr(interaction, "base", interaction)
    dtype = torch.complex128 if base.is_complex else torch.float64
    common = {"dtype": dtype, "initializer": nn.init.normal_, **kwargs}
    entity, relation = ([{"shape": tuple(SIZES[s] for s in shape), **common} for shape in many] for many in shapes)
    none = {"relation_representations": []} if not relation else {}
    model = ERModel(
        triples_factory=triples_factory,
        interaction=interaction,
        entity_representations_kwargs=entity,
        relation_representations_kwargs=relation or None,
        skip_checks=True,
        **none,
    )
    return model.double().eval()


def unit_relations(model: ERModel) -> None:
    """Let relations have modulus one, as the constrainer of RotatE does."""
    for representation in model.relation_representations:
        weight = representation._embeddings.weight.data
        weight.copy_(nn.functional.normalize(weight.unflatten(-1, (-1, 2)), dim=-1).flatten(-2))


def triples() -> LongTensor:
    return TRIPLES.mapped_triples[torch.randperm(TRIPLES.num_triples, generator=generator())[:B]]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def all_negatives(columns: tuple[int, ...]) -> Iterator[Negatives]:
    """Yield negatives shared by all, by chunks (the last is smaller) or by none, of one side a row or not."""
    for rows, chunk in ((1, B), (3, CHUNK), (B, 1)):
        for width in (1, K):
            g = generator()
            column = torch.tensor(columns)[torch.randint(len(columns), (B, width), generator=g)]
            # ids which are shared have to be those of entities and those of relations
            limit = torch.where(column == COLUMN_RELATION, TRIPLES.num_relations, TRIPLES.num_entities).expand(B, K)
            limit = limit if rows == B else limit.amin().expand(rows, K)
            ids = (torch.rand(rows, K, generator=g) * limit).long()
            yield Negatives(triples(), ids, column, chunk_size=chunk)


def result(model: ERModel, score: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """Return scores, and the gradients with respect to all parameters of a random linear function of them."""
    model.zero_grad()
    scores = score()
    weights = torch.randn(scores.shape, dtype=scores.dtype, generator=generator()).to(scores.device)
    (scores * weights).sum().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    return [scores.detach(), *gradients]


def check(fast: list[torch.Tensor], slow: list[torch.Tensor], tolerance: float = 1e-9) -> None:
    for x, y in zip(fast, slow, strict=True):
        assert x.shape == y.shape
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance * max(1.0, y.abs().max().item()))


def score_triples(model: ERModel, negatives: Negatives) -> torch.Tensor:
    """Score negatives as PyKEEN's training loop does."""
    return model.score_hrt(negatives.triples.flatten(end_dim=1)).view(negatives.shape)


def score_slot(model: ERModel, hrt: LongTensor, column: int, ids: LongTensor) -> torch.Tensor:
    """Score candidates by PyKEEN's method for the slot."""
    h, r, t = hrt.unbind(dim=-1)
    if column == COLUMN_HEAD:
        return model.score_h(torch.stack([r, t], dim=-1), heads=ids)
    if column == COLUMN_RELATION:
        return model.score_r(torch.stack([h, t], dim=-1), relations=ids)
    return model.score_t(torch.stack([h, r], dim=-1), tails=ids)


def is_exact(interaction: Interaction) -> bool:
    """Tell RotatE, for whose gradients PyKEEN has two answers, cf. :func:`test_rotate`."""
    return not isinstance(interaction, modules.RotatEInteraction)


@every_interaction
@pytest.mark.parametrize("dense", [1, 100], ids=["sparse", "dense"])
def test_negatives(cls: type[Interaction], kwargs: dict[str, Any], dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked, "DENSE", dense)
    model = make_model(make_interaction(cls, **kwargs))
    if not is_exact(model.interaction):
        unit_relations(model)
    for columns in (*((column,) for column in COLUMNS), (COLUMN_HEAD, COLUMN_TAIL), COLUMNS):
        for negatives in all_negatives(columns):
            fast = result(model, lambda: Scorer(model).negatives(negatives))  # noqa: B023
            slow = result(model, lambda: score_triples(model, negatives))  # noqa: B023
            check(*((fast, slow) if is_exact(model.interaction) else (fast[:1], slow[:1])))


@every_interaction
@pytest.mark.parametrize("column", COLUMNS)
def test_candidates(cls: type[Interaction], kwargs: dict[str, Any], column: int) -> None:
    model = make_model(make_interaction(cls, **kwargs))
    n = TRIPLES.num_relations if column == COLUMN_RELATION else TRIPLES.num_entities
    everything = torch.arange(n)
    for ids in (None, torch.randint(n, (K,)), torch.randint(n, (B, K))):
        explicit = (everything if ids is None else ids).expand(B, -1)
        negatives = Negatives(triples(), explicit, torch.full((B, 1), column))
        fast = result(model, lambda: Scorer(model).candidates(triples(), column, ids))  # noqa: B023
        slow = result(model, lambda: score_slot(model, triples(), column, explicit))  # noqa: B023
        check(fast, slow)
        if is_exact(model.interaction):
            check(fast, result(model, lambda: score_triples(model, negatives)))  # noqa: B023
        with torch.inference_mode():
            check([Scorer(model).candidates(triples(), column, ids)], fast[:1])


@pytest.mark.parametrize("cls", [cls for cls, kwargs in ALL if not kwargs])
def test_training_mode(cls: type[Interaction]) -> None:
    """With dropout and batch normalisation, all is as in PyKEEN's method for the slot."""
    model = make_model(make_interaction(cls)).train()
    for column in COLUMNS:
        ids = torch.randint(TRIPLES.num_entities, (B, K), generator=generator())
        torch.manual_seed(1)
        fast = result(model, lambda: Scorer(model).candidates(triples(), column, ids))  # noqa: B023
        torch.manual_seed(1)
        check(fast, result(model, lambda: score_slot(model, triples(), column, ids)))  # noqa: B023


def test_rotate() -> None:
    """For relations of modulus one, PyKEEN has one score but two gradients: one of triples, one of candidates."""
    model = RotatE(triples_factory=TRIPLES, embedding_dim=4, random_seed=0).double()
    unit_relations(model)
    for column in (COLUMN_HEAD, COLUMN_TAIL):
        for negatives in all_negatives((column,)):
            fast = result(model, lambda: Scorer(model).negatives(negatives))  # noqa: B023
            check(fast, result(model, lambda: score_slot(model, triples(), column, negatives.dense_ids)))  # noqa: B023
            check(fast[:1], result(model, lambda: score_triples(model, negatives))[:1])  # noqa: B023


def test_other_classes_fall_back() -> None:
    class Shifted(modules.DistMultInteraction):
        def forward(self, h: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return super().forward(h, r, t) + h.sum(dim=-1)

    assert query_form(modules.DistMultInteraction()) is not None
    assert query_form(Shifted()) is None
    assert query_form(modules.ClampedInteraction(base=Shifted())) is None
    assert query_form(modules.TransEInteraction(p=3)) is None
    model = make_model(Shifted())
    for negatives in all_negatives(COLUMNS):
        check(
            result(model, lambda: Scorer(model).negatives(negatives)),  # noqa: B023
            result(model, lambda: score_triples(model, negatives)),  # noqa: B023
        )


@pytest.mark.parametrize("interaction", ["transe", "distmult", "simple", "transr"])
@pytest.mark.parametrize("kwargs", [{"normalizer": "normalize"}, {"constrainer": "normalize"}], ids=str)
def test_representations_are_used_as_they_are(interaction: str, kwargs: dict[str, Any]) -> None:
    model = make_model(make_interaction(interaction_resolver.lookup(interaction)), **kwargs)
    model.post_parameter_update()
    for negatives in all_negatives(COLUMNS):
        check(
            result(model, lambda: Scorer(model).negatives(negatives)),  # noqa: B023
            result(model, lambda: score_triples(model, negatives)),  # noqa: B023
        )


def test_graph_convolution_and_sparse_gradients() -> None:
    """A representation which is no table, and one whose gradient is to stay sparse."""
    model = RGCN(triples_factory=TRIPLES, embedding_dim=4, num_layers=1, random_seed=0).eval()
    for negatives in all_negatives(COLUMNS):
        model.post_parameter_update()  # forgets what was computed for the graph
        fast = result(model, lambda: Scorer(model).negatives(negatives))  # noqa: B023
        model.post_parameter_update()
        check(fast, result(model, lambda: score_triples(model, negatives)), tolerance=1e-5)  # noqa: B023
    for name in ("distmult", "transe"):
        model = make_model(make_interaction(interaction_resolver.lookup(name)))
        for negatives in all_negatives((COLUMN_HEAD, COLUMN_TAIL)):
            dense = result(model, lambda: Scorer(model).negatives(negatives))  # noqa: B023
            model.entity_representations[0]._embeddings.sparse = True
            sparse = result(model, lambda: Scorer(model).negatives(negatives))  # noqa: B023
            model.entity_representations[0]._embeddings.sparse = False
            assert [x.is_sparse for x in sparse] == [False, True, False]
            check([x.to_dense() for x in sparse], dense)


def test_inductive() -> None:
    factory = TriplesFactory.from_labeled_triples(Nations().training.triples, create_inverse_triples=True)
    model = InductiveNodePiece(
        triples_factory=factory, inference_factory=factory, num_tokens=3, embedding_dim=4, random_seed=0
    )
    model = model.double().eval()
    for mode in ("training", "validation"):
        for negatives in all_negatives(COLUMNS):
            hrt = negatives.triples.flatten(end_dim=1)
            fast = result(model, lambda: Scorer(model, mode).negatives(negatives))  # noqa: B023
            check(fast, result(model, lambda: model.score_hrt(hrt, mode=mode).view(B, K)))  # noqa: B023


@pytest.mark.parametrize("model_cls", [ComplEx, SimplE, DistMult])
@pytest.mark.parametrize("rows", [1, B])
def test_regularization(model_cls: type[ERModel], rows: int) -> None:
    """A mean over distinct candidates, each positive with one corrupted side, is as for explicit triples."""
    terms = []
    model = model_cls(triples_factory=TRIPLES, embedding_dim=4, random_seed=0, regularizer="lp").double().train()
    ids = torch.arange(rows).view(rows, 1) if rows > 1 else torch.arange(K).view(1, K)
    column = torch.tensor([COLUMN_HEAD, COLUMN_TAIL]).repeat(B)[:B].view(B, 1)
    negatives = Negatives(triples(), ids, column, chunk_size=B // rows)
    for score in (Scorer(model).negatives, lambda negatives: score_triples(model, negatives)):
        score(negatives)
        terms.append(model.collect_regularization_term())
    assert terms[0] > 0
    torch.testing.assert_close(*terms)


@pytest.mark.parametrize("name", ["distmult", "complex", "simple", "cp", "transe", "um", "conve"])
def test_both(name: str) -> None:
    model = make_model(make_interaction(interaction_resolver.lookup(name)))
    scorer = Scorer(model)
    check(
        result(model, lambda: scorer.positives(triples())),
        result(model, lambda: model.score_hrt(triples())),
    )
    for columns in ((COLUMN_HEAD,), (COLUMN_HEAD, COLUMN_TAIL), COLUMNS):
        for negatives in all_negatives(columns):
            check(
                result(model, lambda: torch.cat(scorer.both(negatives), dim=-1)),  # noqa: B023
                result(model, lambda: torch.cat([model.score_hrt(triples()), score_triples(model, negatives)], dim=-1)),  # noqa: B023
            )


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_of_representations_stays_independent(dropout: float) -> None:
    """Each candidate of a positive has a dropout mask of its own, although there are fewer entities than candidates."""
    model = make_model(make_interaction(modules.DistMultInteraction), dropout=dropout).train()
    negatives = Negatives(triples(), torch.zeros(B, 50, dtype=torch.long), torch.full((B, 1), COLUMN_TAIL))
    values = Scorer(model).negatives(negatives)[0].unique().numel()
    assert (values > 1) == (dropout > 0)


@pytest.mark.parametrize("name", ["distmult", "complex", "simple", "transe", "toruse", "pairre", "rotate", "um"])
@pytest.mark.parametrize("chunk", [1, 8])
def test_no_large_temporary(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither scores nor gradients need anything of shape (batch, candidates, dim)."""
    b, k, d, entities = 64, 64, 32, 500
    monkeypatch.setitem(layouts.ELEMENTS, "cpu", 2**12)
    monkeypatch.setitem(SIZES, "d", d)
    cls = interaction_resolver.lookup(name)
    graph = KGInfo(num_entities=entities, num_relations=TRIPLES.num_relations, create_inverse_triples=False)
    model = make_model(make_interaction(cls), graph)
    column = torch.tensor([COLUMN_HEAD, COLUMN_TAIL]).repeat(b)[:b].view(b, 1)
    hrt = TRIPLES.mapped_triples[:b]
    ids = torch.randint(entities, (b // chunk, k))
    negatives = Negatives(hrt, ids, column, chunk_size=chunk)
    peaks = []
    for score in (Scorer(model).negatives, lambda negatives: score_triples(model, negatives)):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            score(negatives).sum().backward()
        peaks.append(max(event.cpu_memory_usage for event in profiler.events()) // torch.finfo(torch.float64).bits * 8)
    fast, slow = peaks
    assert slow >= b * k * d
    assert fast < b * k * d / 2


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("power_norm", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("looked", [False, True])
def test_distance_in_single_precision(p: int, power_norm: bool, scaled: bool, looked: bool) -> None:
    """Values and gradients are exact at any distance, also where query and candidate are nearly or exactly the same."""
    torch.manual_seed(0)
    n, d = 60, 50
    # powers of two, so that no rounding of the scaled candidate spoils the comparison
    scale = 2.0 ** torch.randint(-1, 2, (n, d)) if scaled else torch.ones(n, d)
    c = torch.randn(n, d)
    distances = torch.logspace(-6, 1, n).unsqueeze(-1)
    distances[0] = 0
    q = scale * c + distances * nn.functional.normalize(torch.randn(n, d), dim=-1)
    ids = torch.stack([torch.arange(n), torch.randint(n, (n,))], dim=-1)  # one candidate is near, the other is not
    weights = torch.rand(n, 2)
    arguments = [q, c, scale]

    def run(layout: Layout | None, dtype: torch.dtype) -> list[torch.Tensor]:
        q, c, s = (x.to(dtype, copy=True).requires_grad_() for x in arguments)
        if layout is None:
            x = q.unsqueeze(1) - s.unsqueeze(1) * c[ids]
            norm = -torch.linalg.vector_norm(x, ord=p, dim=-1)
            scores = -(norm.abs() ** p) if power_norm else norm
        elif isinstance(layout, Looked):
            scores = Distance(p, power_norm)(Encoded(q, scale=s if scaled else None), Encoded(c), layout)
        else:
            query = Encoded(layout.arrange(q), scale=layout.arrange(s) if scaled else None)
            scores = Distance(p, power_norm)(query, Encoded(c[ids]), layout).squeeze(1)
        (scores * weights.to(dtype)).sum().backward()
        return [x.detach().double() for x in (scores, q.grad, c.grad, *([s.grad] if scaled else []))]

    fast, exact = run(Looked(ids) if looked else Grouped(1), torch.float32), run(None, torch.float64)
    torch.testing.assert_close(fast[0], exact[0], rtol=1e-5, atol=1e-12)
    for x, y in zip(fast[1:], exact[1:], strict=True):
        assert bool(((x - y).norm(dim=-1) <= 1e-5 * y.norm(dim=-1).clamp(min=1e-3)).all())


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["distmult", "complex", "transe", "toruse", "pairre", "transh", "ntn"])
def test_cuda(name: str) -> None:
    model = make_model(make_interaction(interaction_resolver.lookup(name)))
    for negatives in all_negatives(COLUMNS):
        on_cpu = result(model.cpu(), lambda: Scorer(model).negatives(negatives))  # noqa: B023
        parts = (getattr(negatives, part).cuda() for part in ("positives", "ids", "column"))
        on_gpu = Negatives(*parts, chunk_size=negatives.chunk_size)
        check([x.cpu() for x in result(model.cuda(), lambda: Scorer(model).negatives(on_gpu))], on_cpu)  # noqa: B023


def test_form_and_table() -> None:
    table = {row.interaction: row for row in forms_table()}
    for cls, kwargs in ALL:
        if kwargs or cls in ARGUMENTS or not cls.__module__.startswith("pykeen."):
            continue
        model = make_model(make_interaction(cls))
        assert Scorer(model).form == table[cls.__name__.removesuffix("Interaction")].tail
    assert table["TransE"][1:] == ("distance", "distance", "distance")
    assert table["TuckER"][1:] == ("broadcast", "broadcast", "product")
    assert table["NTN"][1:] == ("broadcast", "broadcast", "broadcast")


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"ERModel.*FixedModel"):
        Scorer(FixedModel(triples_factory=TRIPLES))
    scorer = Scorer(TransE(triples_factory=TRIPLES, embedding_dim=2, random_seed=0))
    with pytest.raises(ValueError, match=r"column .* 3"):
        scorer.candidates(triples(), column=3)
    for ids in (torch.zeros(2, 3), torch.zeros(1, 2, 3)):
        with pytest.raises(ValueError, match="ids must have shape"):
            scorer.candidates(triples(), COLUMN_TAIL, ids.long())
