"""Entry points into PyKEEN's resolvers: what registers a sampler, a training loop, ... under its name.

Every distribution can add classes through the groups of :data:`RESOLVERS`, this one does so itself::

    [project.entry-points."pykeen_advneg.samplers"]
    kbgan = "pykeen_advneg.sampling.kbgan:KBGANNegativeSampler"

The class is then known to PyKEEN under its own name (``KBGANNegativeSampler`` without the suffix of the base class)
and under the name of the entry point.

When it happens
    The classes import PyKEEN, hence they are loaded only when PyKEEN has the resolver in place and none of its modules
    is half-imported (nor one of the distribution which brings the class); until then, registration waits. The modules
    of the command line are exempt, since they read the resolvers during their own import.

Who starts it
    ``import pykeen_advneg``, in any order with the imports of PyKEEN, or PyKEEN itself through
    :mod:`pykeen_advneg_autoload` when it loads :mod:`pykeen.datasets`, which its models, training, evaluation,
    pipeline, HPO and command line all do. A process which imports nothing of PyKEEN but :mod:`pykeen.sampling` or
    :mod:`pykeen.triples` does not load it, and needs ``import pykeen_advneg``.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import wrapt

__all__ = ["RESOLVERS", "register"]

#: group of entry points -> the module of PyKEEN which has the resolver, and its name there
RESOLVERS: dict[str, tuple[str, str]] = {
    "pykeen_advneg.samplers": ("pykeen.sampling", "negative_sampler_resolver"),
    "pykeen_advneg.filterers": ("pykeen.sampling.filtering", "filterer_resolver"),
    "pykeen_advneg.initializers": ("pykeen.nn.init", "initializer_resolver"),
    "pykeen_advneg.constrainers": ("pykeen.nn.representation", "constrainer_resolver"),
    "pykeen_advneg.interactions": ("pykeen.nn.modules", "interaction_resolver"),
    "pykeen_advneg.models": ("pykeen.models", "model_resolver"),
    "pykeen_advneg.evaluators": ("pykeen.evaluation", "evaluator_resolver"),
    "pykeen_advneg.callbacks": ("pykeen.training", "callback_resolver"),
    "pykeen_advneg.optimizers": ("class_resolver.contrib.torch", "optimizer_resolver"),
    "pykeen_advneg.training_loops": ("pykeen.training", "training_loop_resolver"),
}

#: the entry points which still wait for PyKEEN
_waiting: list[EntryPoint] = []
#: the entry points which were tried, each once in a process
_tried: set[EntryPoint] = set()
#: the modules of PyKEEN whose import continues the registration
_hooked: set[str] = set()


def register() -> None:
    """Register the classes of all entry points with PyKEEN: now, or as soon as PyKEEN has been imported.

    To call it again is harmless; it picks up distributions which were installed meanwhile. An entry point which cannot
    be registered gives one :class:`RuntimeWarning` with its name and the error.
    """
    found = entry_points()
    known = _tried.union(_waiting)
    new = [entry for group in RESOLVERS for entry in found.select(group=group) if entry not in known]
    # ours first: no other distribution can take their names
    _waiting.extend(sorted(new, key=lambda entry: not entry.value.startswith("pykeen_advneg.")))
    _continue()


def _continue(_: ModuleType | None = None) -> None:
    """Register what can be registered now, and see to it that this function is called again for the rest."""
    while _waiting:
        if (module := _half_imported()) is not None:
            _observe(module)
            return
        ready = [entry for entry in _waiting if RESOLVERS[entry.group][0] in sys.modules]
        if not ready:
            break
        _try(ready[0])
    for name in {RESOLVERS[entry.group][0] for entry in _waiting} - _hooked:
        _hooked.add(name)
        wrapt.register_post_import_hook(_continue, name)


def _try(entry: EntryPoint) -> None:
    """Load the class (or function) of an entry point and register it; what goes wrong becomes a warning."""
    _waiting.remove(entry)
    _tried.add(entry)
    module, name = RESOLVERS[entry.group]
    try:
        resolver = getattr(sys.modules[module], name)
        # a resolver of functions has no base class
        cls = _checked(entry.load(), getattr(resolver, "base", None))
        if cls not in resolver.lookup_dict.values():
            resolver.register(cls, synonyms=[entry.name])
        if entry.group == "pykeen_advneg.optimizers":
            # where PyKEEN's studies look up what to tune
            ranges = getattr(cls, "hpo_default", {})
            import_module("pykeen.optimizers").optimizers_hpo_defaults.setdefault(cls, ranges)
    except Exception as error:
        warnings.warn(
            f"PyKEEN does not know {entry.name!r}: the entry point {entry.name} = {entry.value} of the group "
            f"{entry.group} could not be registered: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=1,
        )


def _checked(element: object, base: type | None) -> object:
    """Refuse what is no function, or no subclass of the base class of a resolver, which would accept anything."""
    if base is None:
        if not callable(element) or isinstance(element, type):
            raise TypeError(f"{element!r} is not a function")
    elif not (isinstance(element, type) and issubclass(element, base)):
        raise TypeError(f"{element!r} is not a subclass of {base.__module__}.{base.__qualname__}")
    return element


def _half_imported() -> ModuleType | None:
    """Find a module under import which the classes to register may need; the outermost, if there are several."""
    values = [entry.value for entry in (*_waiting, *_tried)]
    roots = {"pykeen", *(value.partition(":")[0].partition(".")[0].strip() for value in values)}
    for name, module in list(sys.modules.items()):
        root, *inner = name.split(".")
        if root in roots and "cli" not in inner and getattr(getattr(module, "__spec__", None), "_initializing", False):
            return module
    return None


class _ObservedSpec(ModuleSpec):
    """The spec of a module under import, which continues the registration once the import has ended.

    The import system clears ``_initializing`` as the last act of an import, a failed one included. No hook comes later:
    those of :mod:`wrapt` run while the flag is still set, and only for modules whose import has not begun.
    """

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_initializing" and not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            _continue()


def _observe(module: ModuleType) -> None:
    """Continue the registration as soon as the import of this module has ended."""
    if type(module.__spec__) is ModuleSpec:
        module.__spec__.__class__ = _ObservedSpec
