"""The interactions which are inner products of a query with a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pykeen.nn.modules import (
    AutoSFInteraction,
    ComplExInteraction,
    ConvEInteraction,
    CPInteraction,
    CrossEInteraction,
    DistMAInteraction,
    DistMultInteraction,
    ERMLPEInteraction,
    HolEInteraction,
    Interaction,
    MultiLinearTuckerInteraction,
    ProjEInteraction,
    QuatEInteraction,
    RESCALInteraction,
    TransFInteraction,
    TransformerInteraction,
    TuckERInteraction,
)
from pykeen.nn.utils import apply_optional_bn
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, BoolTensor, FloatTensor
from pykeen.utils import circular_correlation, ensure_tuple
from torch import nn

from .comparisons import Product
from .form import Encoded, Query, QueryForm, Slot

__all__ = ["PRODUCTS"]


def _form(
    head: Query | None = None,
    relation: Query | None = None,
    tail: Query | None = None,
    encode: Callable[[Slot], Encoded] = Encoded,
    either: Callable[[BoolTensor, Slot, Slot], Encoded] | None = None,
) -> QueryForm:
    queries = {COLUMN_HEAD: head, COLUMN_RELATION: relation, COLUMN_TAIL: tail}
    return QueryForm(
        Product(), {column: query for column, query in queries.items() if query is not None}, encode, either
    )


def _symmetric(query: Query, encode: Callable[[Slot], Encoded] = Encoded) -> QueryForm:
    return _form(query, query, query, encode, either=lambda _, kept, r: query(kept, r))


def _dot(x: FloatTensor, y: FloatTensor) -> FloatTensor:
    return (x * y).sum(dim=-1)


def _dist_mult(interaction: DistMultInteraction) -> QueryForm:
    r"""Write $\sum_i h_i r_i t_i$, which is symmetric in its three slots."""
    return _symmetric(lambda x, y: Encoded(x * y))


def _cp(interaction: CPInteraction) -> QueryForm:
    r"""Write $\sum_{ij} h_{ij} r_{ij} t_{ij}$, where heads and tails have representations of their own."""
    return _symmetric(lambda x, y: Encoded((x * y).flatten(-2)), encode=lambda x: Encoded(x.flatten(-2)))


def _real(x: FloatTensor) -> Encoded:
    r"""View complex vectors of dimension d as real ones of dimension 2d, with $\Re(x \bar y)$ as their product."""
    return Encoded(torch.view_as_real(x).flatten(-2) if x.is_complex() else x)


def _compl_ex(interaction: ComplExInteraction) -> QueryForm:
    r"""Write $\Re(\sum_i h_i r_i \bar t_i)$, equal to $\Re(\sum_i h_i \overline{\bar r_i t_i})$."""
    return _form(
        head=lambda r, t: _real(r.conj() * t),
        relation=lambda h, t: _real(h.conj() * t),
        tail=lambda h, r: _real(h * r),
        encode=_real,
        either=lambda is_head, kept, r: _real(kept * _conjugate_where(is_head, r)),
    )


def _conjugate_where(condition: BoolTensor, x: FloatTensor) -> FloatTensor:
    """Conjugate some rows, shape: ``(b, d)``, without a lazy conjugate, which each product would resolve again."""
    sign = torch.where(condition, -1.0, 1.0).to(x.real.dtype)
    return torch.view_as_complex(torch.view_as_real(x) * torch.stack([torch.ones_like(sign), sign], dim=-1))


def _rescal(interaction: RESCALInteraction) -> QueryForm:
    """Write $h^T R t$."""
    return _form(
        head=lambda r, t: Encoded((r @ t.unsqueeze(-1)).squeeze(-1)),
        tail=lambda h, r: Encoded((h.unsqueeze(-2) @ r).squeeze(-2)),
    )


def _hol_e(interaction: HolEInteraction) -> QueryForm:
    r"""Write $\sum_{ij} r_i h_j t_{i+j}$: for tails, the circular convolution of head and relation."""

    def convolution(x: FloatTensor, y: FloatTensor) -> FloatTensor:
        result: FloatTensor = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(y), n=x.shape[-1])
        return result

    def correlation(x: FloatTensor, y: FloatTensor) -> Encoded:
        return Encoded(circular_correlation(x, y))

    return _form(correlation, correlation, lambda h, r: Encoded(convolution(h, r)))


def _quat_e(interaction: QuatEInteraction) -> QueryForm:
    r"""Write $-\sum_{lijk} h_{li} r_{lj} t_{lk} M_{ijk}$ with the multiplication table M of the quaternions."""

    def query(equation: str) -> Query:
        return lambda x, y: Encoded(-torch.einsum(equation, x, y, interaction.table).flatten(-2))

    return _form(
        head=query("...dj,...dk,ijk->...di"),
        relation=query("...di,...dk,ijk->...dj"),
        tail=query("...di,...dj,ijk->...dk"),
        encode=lambda x: Encoded(x.flatten(-2)),
    )


def _auto_sf(interaction: AutoSFInteraction[Any, Any, Any]) -> QueryForm:
    """Write a signed sum of products of blocks of the three slots."""

    def query(column: int) -> Query:
        first, second = (i for i in range(3) if i != column)

        def make(x: Slot, y: Slot) -> Encoded:
            xs, ys = ensure_tuple(x, y)
            blocks: dict[int, FloatTensor] = {}
            for coefficient in interaction.coefficients:
                term = coefficient[3] * xs[coefficient[first]] * ys[coefficient[second]]
                at = coefficient[column]
                blocks[at] = blocks[at] + term if at in blocks else term
            shape = interaction.relation_shape if column == COLUMN_RELATION else interaction.entity_shape
            unused = torch.zeros_like(xs[0])
            return Encoded(torch.cat([blocks.get(i, unused) for i in range(len(shape))], dim=-1))

        return make

    return _form(query(0), query(1), query(2), encode=lambda x: Encoded(torch.cat(list(ensure_tuple(x)[0]), dim=-1)))


def _trans_f(interaction: TransFInteraction) -> QueryForm:
    """Write $2 h^T t + r^T t - h^T r$."""
    return _form(
        head=lambda r, t: Encoded(2 * t - r, bias=_dot(r, t)),
        relation=lambda h, t: Encoded(t - h, bias=2 * _dot(h, t)),
        tail=lambda h, r: Encoded(2 * h + r, bias=-_dot(h, r)),
    )


def _dist_ma(interaction: DistMAInteraction) -> QueryForm:
    """Write $h^T r + r^T t + h^T t$, which is symmetric in its three slots."""
    return _symmetric(lambda x, y: Encoded(x + y, bias=_dot(x, y)))


def _linear_tucker(core: FloatTensor) -> QueryForm:
    r"""Write $\sum_{ijk} W_{ijk} h_i r_j t_k$."""

    def query(equation: str) -> Query:
        return lambda x, y: Encoded(torch.einsum(equation, core, x, y))

    return _form(query("ijk,bj,bk->bi"), query("ijk,bi,bk->bj"), query("ijk,bi,bj->bk"))


def _multi_linear_tucker(interaction: MultiLinearTuckerInteraction) -> QueryForm:
    r"""Write $\sum_{ijk} W_{ijk} h_i r_j t_k$, where heads and tails have representations of their own."""
    return _linear_tucker(interaction.core_tensor)


def _tuck_er(interaction: TuckERInteraction) -> QueryForm:
    """Write TuckER, with dropout and batch normalisation between the head, the relation and the product."""

    def tail(h: FloatTensor, r: FloatTensor) -> Encoded:
        h = interaction.head_dropout(apply_optional_bn(x=h, batch_norm=interaction.head_batch_norm))
        r = interaction.relation_dropout(torch.einsum("ijk,...j->...ik", interaction.core_tensor, r))
        x = apply_optional_bn(x=torch.einsum("...ik,...i->...k", r, h), batch_norm=interaction.head_relation_batch_norm)
        return Encoded(interaction.head_relation_dropout(x))

    if _is_deterministic(interaction) and interaction.head_batch_norm is None:
        return _linear_tucker(interaction.core_tensor)
    return _form(tail=tail)


def _is_deterministic(interaction: nn.Module) -> bool:
    return not any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in interaction.modules())


def _conv_e(interaction: ConvEInteraction) -> QueryForm:
    """Write ConvE for tails, whose representation has a bias; the query is what the convolutions give."""
    shape = interaction.shape_info

    def tail(h: FloatTensor, r: FloatTensor) -> Encoded:
        image = (shape.input_channels, shape.image_height, shape.image_width)
        x = interaction.hr2d(torch.cat([h.unflatten(-1, image), r.unflatten(-1, image)], dim=-2))
        return Encoded(interaction.hr1d(x.flatten(1)))

    return _form(tail=tail, encode=lambda t: Encoded(*t))


def _er_mlp_e(interaction: ERMLPEInteraction) -> QueryForm:
    """Write $MLP([h; r])^T t$ for tails."""
    return _form(tail=lambda h, r: Encoded(interaction.mlp(torch.cat([h, r], dim=-1))))


def _proj_e(interaction: ProjEInteraction) -> QueryForm:
    """Write $g(f(d_e h + d_r r + b_c)^T t + b_p)$ for tails."""

    def tail(h: FloatTensor, r: FloatTensor) -> Encoded:
        x = interaction.inner_activation(h * interaction.d_e + r * interaction.d_r + interaction.b_c)
        return Encoded(x, bias=interaction.b_p.expand(len(x)))

    return _form(tail=tail).then(interaction.outer_activation)


def _cross_e(interaction: CrossEInteraction) -> QueryForm:
    """Write $f(c_r h + c_r h r + b)^T t$ for tails."""

    def tail(h: FloatTensor, r: Sequence[FloatTensor]) -> Encoded:
        r_emb, c_r = r
        h = c_r * h
        x = interaction.activation(interaction.bias + h + h * r_emb)
        return Encoded(x if interaction.dropout is None else interaction.dropout(x))

    return _form(tail=tail)


def _transformer(interaction: TransformerInteraction) -> QueryForm:
    """Write the product of a transformer's reading of head and relation with the tail."""

    def tail(h: FloatTensor, r: FloatTensor) -> Encoded:
        x = torch.stack([h, r]) + interaction.position_embeddings.unsqueeze(dim=1)
        return Encoded(interaction.final(interaction.transformer(src=x).sum(dim=0)))

    return _form(tail=tail)


#: from the exact class of an interaction to the function which writes an instance of it as a query form
PRODUCTS: dict[type[Interaction[Any, Any, Any]], Callable[[Any], QueryForm]] = {
    AutoSFInteraction: _auto_sf,
    ComplExInteraction: _compl_ex,
    ConvEInteraction: _conv_e,
    CPInteraction: _cp,
    CrossEInteraction: _cross_e,
    DistMAInteraction: _dist_ma,
    DistMultInteraction: _dist_mult,
    ERMLPEInteraction: _er_mlp_e,
    HolEInteraction: _hol_e,
    MultiLinearTuckerInteraction: _multi_linear_tucker,
    ProjEInteraction: _proj_e,
    QuatEInteraction: _quat_e,
    RESCALInteraction: _rescal,
    TransFInteraction: _trans_f,
    TransformerInteraction: _transformer,
    TuckERInteraction: _tuck_er,
}
