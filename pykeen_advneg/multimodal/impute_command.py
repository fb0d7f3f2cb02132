"""What ``advneg impute`` does."""

from __future__ import annotations

import pathlib
from typing import Any

from pykeen.typing import LongTensor
from rich.console import Console

from ..errors import ConfigurationError
from .decoders import NumericDecoder, load_decoder
from .decoders.numeric import check_alpha
from .factory import MultimodalTriplesFactory
from .imputation import choose_entities, fit_decoder, predict
from .imputed_files import write_grids, write_predictions
from .saving import load_calibration, load_run

__all__ = ["impute"]

#: how many rows are shown
_SHOWN = 5
#: what is said of intervals
_SEEN = (
    "The intervals come from entities whose numbers the model was trained with, and may be too narrow; "
    "save_run(calibration=...) takes numbers which it was not trained with."
)


def impute(
    run: pathlib.Path,
    attribute: str,
    out: pathlib.Path,
    *,
    entities: pathlib.Path | None,
    decoder: pathlib.Path | None,
    epochs: int | None,
    alpha: float,
    seed: int,
    quiet: bool,
) -> None:
    """Train a decoder, unless one is given, and write what it fills in.

    :param run: a folder written by :func:`pykeen_advneg.multimodal.saving.save_run`
    :param attribute: the name of the attribute
    :param out: the folder for ``ATTRIBUTE.tsv``, ``ATTRIBUTE.decoder.safetensors``, and ``ATTRIBUTE.png``,
        ``ATTRIBUTE-2.png`` and so on for pictures
    :param entities: a file with an entity a line; None: those which lack a value that their like have
    :param decoder: a decoder which was saved
    :param epochs: how many epochs the decoder is trained; None: as many as is its default
    :param alpha: how often the interval of a number may miss it
    :param seed: the seed of all that is random
    :param quiet: whether nothing is printed

    :raises ConfigurationError: if something is missing or damaged, or if there is nothing to fill in
    :raises DivergenceError: if the decoder leaves the finite numbers
    """
    check_alpha(alpha)
    model, training = load_run(run)
    if attribute not in training.attributes:
        raise ConfigurationError(f"attribute {attribute!r} is none of {list(training.attributes)}.")
    ids = _choose(training, attribute, entities)
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in attribute)
    if decoder is not None:
        trained = load_decoder(decoder)
    else:
        options: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
        options["calibration"] = load_calibration(run)
        trained = fit_decoder(model, training, attribute, seed=seed, use_tqdm=not quiet, **options)
        trained.save(out / f"{name}.decoder.safetensors")
    frame, pictures = predict(trained, model, training, attribute, ids, alpha=alpha, seed=seed)
    write_predictions(frame, out / f"{name}.tsv")
    if pictures is not None:
        write_grids(pictures, out / f"{name}.png")
    if not quiet:
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"{len(frame)} values of {attribute!r} in {out / name}.tsv", markup=False)
        console.print(frame.head(_SHOWN).to_string(index=False), markup=False)
        if isinstance(trained, NumericDecoder) and not trained.settings["held_out"]:
            console.print(_SEEN, markup=False)


def _choose(training: MultimodalTriplesFactory, attribute: str, entities: pathlib.Path | None) -> LongTensor:
    """Choose whose values are filled in, at least one."""
    labels = None
    if entities is not None:
        try:
            labels = [line for line in entities.read_text(encoding="utf-8").splitlines() if line]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"entities: '{entities}' cannot be read: {error}.") from error
    ids = choose_entities(training, attribute, labels)
    if not len(ids):
        raise ConfigurationError(
            f"No entity lacks a value of {attribute!r} which its like have; name some by --entities."
            if entities is None
            else f"entities: '{entities}' names none; write one a line."
        )
    return ids
