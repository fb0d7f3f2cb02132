r"""Optimizers whose unit is the row: only rows with a gradient are read and changed.

A step of PyKEEN costs as much as the graph has entities, since the gradient of an embedding table is dense and so is
what the optimizer does with it. These optimizers take sparse gradients, which the loop ``adversarial`` then asks for
(:mod:`pykeen_advneg.training.rows`), so that a step costs as much as its batch has entities. With the dense gradients
of another loop they compute the same, at the cost of a dense gradient.

A row of a parameter $\theta$ is $\theta_i$, with the index of its first dimension; a parameter with one dimension has
rows of one element.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, overload

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.optim import Optimizer

from .errors import ConfigurationError

__all__ = ["RowAdagrad", "RowAdam", "RowOptimizer", "SparseAdagrad"]


class RowOptimizer(Optimizer, ABC):
    """An optimizer which changes the rows with a gradient, and no others."""

    #: what PyKEEN's studies tune, unless told otherwise
    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], **defaults: float) -> None:
        """Initialize the optimizer.

        :param params: the parameters
        :param defaults: the settings; each has to be a positive number or zero

        :raises ConfigurationError: if a setting is no number, negative, or not finite
        """
        for name, value in defaults.items():
            if not isinstance(value, numbers.Real) or not 0 <= value < float("inf"):
                raise ConfigurationError(f"optimizer_kwargs has {name}={value!r}; choose a finite number from 0 on.")
        if not defaults["eps"]:
            raise ConfigurationError("optimizer_kwargs has eps=0, which divides by zero; choose a small number above.")
        super().__init__(params, defaults)
        #: the rows which the last step changed, of the parameters whose gradient was sparse
        self.rows: dict[nn.Parameter, LongTensor] = {}

    @abstractmethod
    def _prepare(self, parameter: nn.Parameter, **settings: float) -> dict[str, torch.Tensor]:
        """Make the state of a parameter, each entry with as many rows."""

    @abstractmethod
    def _updates(self, state: dict[str, torch.Tensor], gradient: FloatTensor, **settings: float) -> FloatTensor:
        """Compute by what to change some rows, and change their state in place.

        :param state: of these rows
        :param gradient: of these rows, shape: ``(n, *s)``
        :param settings: those of the parameter's group

        :returns: what to add, before multiplication by the learning rate, shape: ``(n, *s)``
        """

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    # docstr-coverage: inherited
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        :param closure: evaluates the loss once more, and returns it

        :returns: what the closure returns
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.rows = {}
        for group in self.param_groups:
            # PyTorch adds names of its own to the defaults when it loads a state
            settings = {name: group[name] for name in self.defaults if name in group}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, **settings)
        return loss

    def num_steps(self, parameter: nn.Parameter) -> int:
        """Count the steps of a parameter.

        :param parameter: one of the parameters

        :returns: the number of steps since its state is new; 0 without state
        """
        state = self.state.get(parameter)
        return int(state["step"]) if state else 0

    def _step(self, parameter: nn.Parameter, **settings: float) -> None:
        state = self.state[parameter]
        if not state:
            # "step" stays on the CPU, also when PyTorch loads a state
            state.update(self._prepare(parameter, **settings), step=torch.zeros(()))
        state["step"] += 1
        by_row = {name: value for name, value in state.items() if name != "step"}
        gradient = parameter.grad
        assert gradient is not None
        if not gradient.is_sparse:
            self._step_dense(parameter, gradient, by_row, **settings)
            return
        gradient = gradient.coalesce()
        rows, values = gradient._indices()[0], gradient._values()
        if self._decays:
            moved = (values.flatten(start_dim=1) if values.ndim > 1 else values.unsqueeze(1)).any(dim=1)
            rows, values = rows[moved], values[moved]
        self.rows[parameter] = rows
        parameter.index_add_(0, rows, self._updates_at(rows, by_row, values, **settings), alpha=settings["lr"])

    def _updates_at(
        self, rows: LongTensor, state: dict[str, torch.Tensor], gradient: FloatTensor, **settings: float
    ) -> FloatTensor:
        """Do as :meth:`_updates` for some rows of a state, shape of these rows: ``(n,)``."""
        some = {name: value.index_select(0, rows) for name, value in state.items()}
        update = self._updates(some, gradient, **settings)
        for name, value in some.items():
            state[name].index_copy_(0, rows, value)
        return update

    def _step_dense(
        self, parameter: nn.Parameter, gradient: FloatTensor, state: dict[str, torch.Tensor], **settings: float
    ) -> None:
        """Change the rows whose gradient is not zero."""
        flat = gradient.reshape(len(gradient) if gradient.ndim else 1, -1)
        is_zero = ~flat.any(dim=1)
        before = {name: value.clone() for name, value in state.items()} if self._decays else {}
        update = self._updates(state, gradient, **settings)
        for name, value in before.items():
            state[name].copy_(torch.where(_like(is_zero, value), value, state[name]))
        parameter.add_(update.masked_fill_(_like(is_zero, update), 0) if self._decays else update, alpha=settings["lr"])

    #: whether a row without gradient would be changed, were it not left out
    _decays: bool = True


def _like(flags: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Give one flag for each row the shape which broadcasts to x."""
    return flags.view(-1, *[1] * (x.ndim - 1)) if x.ndim else flags.squeeze()


def _first_elements(x: torch.Tensor) -> torch.Tensor:
    """Cut out the first element of each row, shape: ``(n, 1, ...)``."""
    return x[(slice(None), *[slice(1)] * (x.ndim - 1))] if x.ndim else x


def _divide(gradient: FloatTensor, root: FloatTensor, eps: float) -> FloatTensor:
    """Compute the negative quotient; in the memory of the root if it is as large."""
    root = root.add_(eps).neg_()
    return torch.div(gradient, root, out=root) if root.shape == gradient.shape else gradient / root


class SparseAdagrad(RowOptimizer):
    r"""Adagrad (Duchi et al., 2011) which leaves the rows without gradient alone.

    $$a_{ij} \leftarrow a_{ij} + g_{ij}^2, \qquad
    \theta_{ij} \leftarrow \theta_{ij} - \eta \frac{g_{ij}}{\sqrt{a_{ij}} + \epsilon}$$

    A gradient of zero changes nothing in Adagrad: the numbers are those of :class:`torch.optim.Adagrad`.
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(lr=dict(type=float, low=0.003, high=0.3, scale="log"))

    _decays = False

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 0.1,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        r"""Initialize the optimizer.

        :param params: the parameters
        :param lr: $\eta$, the learning rate
        :param initial_accumulator_value: $a$ before the first step
        :param eps: $\epsilon$, against a division by zero

        :raises ConfigurationError: if a number is negative or not finite
        """
        super().__init__(params, lr=lr, initial_accumulator_value=initial_accumulator_value, eps=eps)

    # docstr-coverage: inherited
    def _prepare(self, parameter: nn.Parameter, **settings: float) -> dict[str, torch.Tensor]:
        return {"sum": torch.full_like(parameter, settings["initial_accumulator_value"])}

    # docstr-coverage: inherited
    def _updates(self, state: dict[str, torch.Tensor], gradient: FloatTensor, **settings: float) -> FloatTensor:
        return _divide(gradient, state["sum"].add_(self._squares(gradient)).sqrt(), settings["eps"])

    # docstr-coverage: inherited
    def _updates_at(
        self, rows: LongTensor, state: dict[str, torch.Tensor], gradient: FloatTensor, **settings: float
    ) -> FloatTensor:
        # to add at rows takes less time than to put them back
        sums = state["sum"].index_add_(0, rows, self._squares(gradient))
        return _divide(gradient, sums.index_select(0, rows).sqrt_(), settings["eps"])

    @staticmethod
    def _squares(gradient: FloatTensor) -> FloatTensor:
        """Compute by what the state grows."""
        return gradient.square()


class RowAdagrad(SparseAdagrad):
    r"""Adagrad with one step size for each row.

    $$a_i \leftarrow a_i + \frac{1}{d} \sum_{j=1}^d g_{ij}^2, \qquad
    \theta_i \leftarrow \theta_i - \eta \frac{g_i}{\sqrt{a_i} + \epsilon}$$

    The state is one number for each row, where Adagrad has one for each element; so do PyTorch-BigGraph (Lerer et al.,
    2019) and DGL-KE (Zheng et al., 2020). It is another optimizer, not a faster form of the same: measure whether it
    ranks as well (``docs/optimizers.md``), and tune its learning rate by itself.
    """

    # docstr-coverage: inherited
    def _prepare(self, parameter: nn.Parameter, **settings: float) -> dict[str, torch.Tensor]:
        return {"sum": torch.full_like(_first_elements(parameter), settings["initial_accumulator_value"])}

    # docstr-coverage: inherited
    @staticmethod
    def _squares(gradient: FloatTensor) -> FloatTensor:
        squares = gradient.square()
        return squares.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True) if gradient.ndim > 1 else squares


class RowAdam(RowOptimizer):
    r"""Adam (Kingma & Ba, 2015) for each row by itself: a row steps, and its moments decay, when it has a gradient.

    With $t_i$ the number of steps of row $i$ so far,

    $$m_i \leftarrow \beta_1 m_i + (1 - \beta_1) g_i, \qquad v_i \leftarrow \beta_2 v_i + (1 - \beta_2) g_i^2, \qquad
    \theta_i \leftarrow \theta_i - \eta \frac{m_i / (1 - \beta_1^{t_i})}{\sqrt{v_i / (1 - \beta_2^{t_i})} + \epsilon}.$$

    Where all rows have a gradient in each step, this is Adam. :class:`torch.optim.SparseAdam` counts the steps of the
    whole table instead, and therefore takes a step of about $3 \eta$ where a row has its first gradient late.
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(lr=dict(type=float, low=1e-4, high=0.1, scale="log"))

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        r"""Initialize the optimizer.

        :param params: the parameters
        :param lr: $\eta$, the learning rate
        :param beta1: $\beta_1$, the decay of the first moment
        :param beta2: $\beta_2$, the decay of the second moment
        :param eps: $\epsilon$, against a division by zero

        :raises ConfigurationError: if a number is negative or not finite, or a decay not less than 1
        """
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not beta < 1:
                raise ConfigurationError(f"optimizer_kwargs has {name}={beta!r}; choose a number less than 1.")
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2, eps=eps)

    # docstr-coverage: inherited
    def _prepare(self, parameter: nn.Parameter, **settings: float) -> dict[str, torch.Tensor]:
        return {
            "steps": torch.zeros_like(_first_elements(parameter)),
            "mean": torch.zeros_like(parameter),
            "square": torch.zeros_like(parameter),
        }

    # docstr-coverage: inherited
    def _updates(self, state: dict[str, torch.Tensor], gradient: FloatTensor, **settings: float) -> FloatTensor:
        beta1, beta2 = settings["beta1"], settings["beta2"]
        steps = state["steps"].add_(1)
        mean = state["mean"].lerp_(gradient, 1 - beta1)
        square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        deviation = (square / (1 - beta2**steps)).sqrt_().add_(settings["eps"])
        return (mean / (beta1**steps - 1)).div_(deviation)
