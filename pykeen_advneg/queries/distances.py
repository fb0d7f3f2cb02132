"""The interactions which are negative distances between a query and a candidate, which a relation may scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pykeen.nn.modules import (
    Interaction,
    LineaREInteraction,
    MuREInteraction,
    NormBasedInteraction,
    PairREInteraction,
    RotatEInteraction,
    TorusEInteraction,
    TransEInteraction,
    TransHInteraction,
    TripleREInteraction,
    UMInteraction,
)
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor
from pykeen.utils import ensure_complex

from ..models import UnclampedTransDInteraction
from .comparisons import Distance, TorusDistance
from .form import Encoded, Query, QueryForm

__all__ = ["DISTANCES"]

#: The representations of a slot which has several
Several = Sequence[FloatTensor]


def _translation(compare: Distance | TorusDistance) -> QueryForm:
    """Write $-|h + r - t|$."""
    queries: dict[int, Query] = {
        COLUMN_HEAD: lambda r, t: Encoded(t - r),
        COLUMN_RELATION: lambda h, t: Encoded(t - h),
        COLUMN_TAIL: lambda h, r: Encoded(h + r),
    }
    return QueryForm(compare, queries, Encoded)


def _trans_e(interaction: TransEInteraction) -> QueryForm:
    """Write $-|h + r - t|$."""
    return _translation(Distance(interaction.p, interaction.power_norm))


def _torus_e(interaction: TorusEInteraction) -> QueryForm:
    """Write $-|h + r - t|$ on the torus."""
    return _translation(TorusDistance(interaction.p, interaction.power_norm))


def _um(interaction: UMInteraction) -> QueryForm:
    """Write $-|h - t|$, which ignores the relation."""
    queries: dict[int, Query] = {COLUMN_HEAD: lambda _, t: Encoded(t), COLUMN_TAIL: lambda h, _: Encoded(h)}
    return QueryForm(Distance(interaction.p, interaction.power_norm), queries, Encoded)


def _rotat_e(interaction: RotatEInteraction) -> QueryForm:
    r"""Write $-|h r - t|_2$ for tails and $-|h - \bar r t|_2$ for heads, for any ``p``, which PyKEEN ignores.

    Both are equal only where each $|r_i| = 1$, which the constrainer of PyKEEN's RotatE asserts. For one triple at a
    time, PyKEEN computes the second.
    """

    def real(x: FloatTensor) -> Encoded:
        return Encoded(torch.view_as_real(*ensure_complex(x)).flatten(-2))

    def head(r: FloatTensor, t: FloatTensor) -> Encoded:
        r, t = ensure_complex(r, t)
        return real(t * r.conj())

    def tail(h: FloatTensor, r: FloatTensor) -> Encoded:
        h, r = ensure_complex(h, r)
        return real(h * r)

    return QueryForm(Distance(2), {COLUMN_HEAD: head, COLUMN_TAIL: tail}, real)


def _mu_re(interaction: MuREInteraction) -> QueryForm:
    """Write $-|h R + r - t| + b_h + b_t$; head and tail have biases of their own."""

    def head(r: Several, t: Several) -> Encoded:
        return Encoded(t[0] - r[0], bias=t[1], scale=r[1])

    def tail(h: Several, r: Several) -> Encoded:
        return Encoded(h[0] * r[1] + r[0], bias=h[1])

    queries: dict[int, Query] = {COLUMN_HEAD: head, COLUMN_TAIL: tail}
    return QueryForm(Distance(interaction.p, interaction.power_norm), queries, lambda x: Encoded(*x))


def _scaled(interaction: NormBasedInteraction[Any, Any, Any], split: Callable[[Several], Several]) -> QueryForm:
    """Write $-|h r_h - t r_t + r_m|$.

    :param interaction: has the order of the norm
    :param split: gives $r_h$, $r_t$ and $r_m$
    """

    def head(r: Several, t: FloatTensor) -> Encoded:
        r_h, r_t, r_m = split(r)
        return Encoded(t * r_t - r_m, scale=r_h)

    def tail(h: FloatTensor, r: Several) -> Encoded:
        r_h, r_t, r_m = split(r)
        return Encoded(h * r_h + r_m, scale=r_t)

    queries: dict[int, Query] = {COLUMN_HEAD: head, COLUMN_TAIL: tail}
    return QueryForm(Distance(interaction.p, interaction.power_norm), queries, Encoded)


def _pair_re(interaction: PairREInteraction) -> QueryForm:
    """Write $-|h r_h - t r_t|$."""
    return _scaled(interaction, lambda r: (r[0], r[1], torch.zeros_like(r[0])))


def _linea_re(interaction: LineaREInteraction) -> QueryForm:
    """Write $-|h r_h - t r_t + r_m|$."""
    return _scaled(interaction, lambda r: (r[0], r[2], r[1]))


def _triple_re(interaction: TripleREInteraction) -> QueryForm:
    """Write $-|h (r_h + u) - t (r_t + u) + r_m|$."""
    u = interaction.u or 0
    return _scaled(interaction, lambda r: (r[0] + u, r[2] + u, r[1]))


def _trans_h(interaction: TransHInteraction) -> QueryForm:
    r"""Write $-|h_\bot + r - t_\bot|$ with $e_\bot = e - (w^T e) w$."""

    def head(r: Several, t: FloatTensor) -> Encoded:
        w, d = r
        return Encoded(t - _dot(t, w) * w - d, shift=w)

    def tail(h: FloatTensor, r: Several) -> Encoded:
        w, d = r
        return Encoded(h - _dot(h, w) * w + d, shift=w)

    queries: dict[int, Query] = {COLUMN_HEAD: head, COLUMN_TAIL: tail}
    return QueryForm(Distance(interaction.p, interaction.power_norm), queries, Encoded, moves=True)


def _trans_d(interaction: UnclampedTransDInteraction) -> QueryForm:
    r"""Write $-|h_\bot + r - t_\bot|$ with $e_\bot = e + (e_p^T e) r_p$."""

    def head(r: Several, t: Several) -> Encoded:
        return Encoded(t[0] + _dot(*t) * r[1] - r[0], shift=r[1])

    def tail(h: Several, r: Several) -> Encoded:
        return Encoded(h[0] + _dot(*h) * r[1] + r[0], shift=r[1])

    queries: dict[int, Query] = {COLUMN_HEAD: head, COLUMN_TAIL: tail}
    compare = Distance(interaction.p, interaction.power_norm)
    return QueryForm(compare, queries, lambda e: Encoded(e[0], shift=_dot(*e).squeeze(-1)), moves=True)


def _dot(x: FloatTensor, y: FloatTensor) -> FloatTensor:
    return (x * y).sum(dim=-1, keepdim=True)


#: from the exact class of an interaction to the function which writes an instance with $p$ in {1, 2} as a query form
DISTANCES: dict[type[Interaction[Any, Any, Any]], Callable[[Any], QueryForm]] = {
    LineaREInteraction: _linea_re,
    MuREInteraction: _mu_re,
    PairREInteraction: _pair_re,
    RotatEInteraction: _rotat_e,
    TorusEInteraction: _torus_e,
    TransEInteraction: _trans_e,
    TransHInteraction: _trans_h,
    TripleREInteraction: _triple_re,
    UMInteraction: _um,
    UnclampedTransDInteraction: _trans_d,
}
