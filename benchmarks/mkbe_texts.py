"""Do texts which are written from embeddings say something of their entities? Descriptions of FB15k-237.

DistMult learns the links of FB15k-237, without any text. A tenth of the entities is held out; the descriptions of the
others train the decoder ``text``, and what it writes for those held out is compared with their own descriptions (BLEU
with up to 4 words, ROUGE-L). Beside it: the same decoder without the entity (``unconditional``), a copy of the
description of the nearest of the other entities, by the cosine of embeddings (``neighbour``), and of any (``chance``).

One JSON line a run is appended to ``OUT/texts.jsonl``; what stands there is not run again.

usage: python benchmarks/mkbe_texts.py --out runs --seeds 3
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.datasets import get_dataset
from pykeen.pipeline import pipeline
from torch.nn.functional import normalize

from pykeen_advneg.multimodal.decoders import TextDecoder
from pykeen_advneg.multimodal.decoders.scores import bleu, rouge_l
from pykeen_advneg.multimodal.descriptions import entity_texts, read_texts
from result_lines import append, read

HELD_OUT = 0.1
#: how many written texts are kept to be looked at
SHOWN = 8

METRIC = "both.realistic.inverse_harmonic_mean_rank"


def embed(seed: int, epochs: int) -> tuple[torch.Tensor, float, dict[str, int]]:
    """Learn the links; gives embeddings, the test MRR and the ids."""
    data = get_dataset(dataset="fb15k237")
    result = pipeline(
        dataset=data,
        model="distmult",
        model_kwargs=dict(embedding_dim=100, entity_constrainer=None),
        regularizer="no",
        negative_sampler="emu",
        negative_sampler_kwargs=dict(num_negs_per_pos=256, base_kwargs=dict(chunk_size=128)),
        optimizer="sparseadagrad",
        optimizer_kwargs=dict(lr=0.3),
        training_loop="adversarial",
        training_loop_kwargs=dict(automatic_memory_optimization=False),
        training_kwargs=dict(num_epochs=epochs, batch_size=1000, use_tqdm=False),
        evaluator="fastrankbased",
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=seed,
        device="cpu",
    )
    model: Any = result.model
    with torch.no_grad():
        embeddings = model.entity_representations[0]().clone()
    training: Any = data.training
    return embeddings, float(result.get_metric(METRIC)), dict(training.entity_to_id)


def writers(
    known: torch.Tensor, texts: Sequence[str], new: torch.Tensor, seed: int, epochs: int, size: int
) -> dict[str, Callable[[], list[str]]]:
    """Give what writes a text for each new entity, by arm.

    :param known: the embeddings which train
    :param texts: their texts
    :param new: those which were held out
    """

    def decode(**settings: Any) -> list[str]:
        decoder = TextDecoder(embedding_dim=known.shape[1], word_dim=size, hidden_dim=size, **settings)
        decoder.fit(known, texts, seed=seed, epochs=epochs, use_tqdm=False)
        return decoder.sample(new, seed=seed)

    def copy(places: torch.Tensor) -> list[str]:
        return [texts[i] for i in places.tolist()]

    generator = torch.Generator().manual_seed(seed)
    return {
        "decoder": decode,
        "unconditional": lambda: decode(conditional=False, noise_dim=64),
        "neighbour": lambda: copy((normalize(new) @ normalize(known).T).argmax(dim=1)),
        "chance": lambda: copy(torch.randint(len(texts), (len(new),), generator=generator)),
    }


def run(seed: int, path: Path | None, epochs: int, decoder_epochs: int, size: int, words: int) -> list[dict[str, Any]]:
    """Evaluate all arms with one seed."""
    embeddings, mrr, ids = embed(seed, epochs)
    found = entity_texts("fb15k237") if path is None else read_texts(path)
    # what is not written cannot be right: longer texts are cut before they are compared
    known = {ids[label]: " ".join(text.split()[:words]) for label, text in found.items() if label in ids and text}
    order = torch.tensor(sorted(known))[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    held, training = order.split([int(HELD_OUT * len(order)), len(order) - int(HELD_OUT * len(order))])
    true = [known[i] for i in held.tolist()]
    texts = [known[i] for i in training.tolist()]
    lines = []
    for arm, write in writers(embeddings[training], texts, embeddings[held], seed, decoder_epochs, size).items():
        start = time.process_time()
        written = write()
        lines.append(
            {
                "arm": arm,
                "bleu": bleu(written, true),
                "rouge_l": rouge_l(written, true),
                "different": len(set(written)) / len(written),
                "links_mrr": mrr,
                "count": len(true),
                "cpu": time.process_time() - start,
                "examples": [list(pair) for pair in zip(true[:SHOWN], written[:SHOWN], strict=True)],
            }
        )
    return lines


def main(
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    texts: Annotated[
        Path | None, typer.Option(help="Label, name, text, as a TSV file; downloaded if not given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 3,
    epochs: Annotated[int, typer.Option(help="How many epochs for the links.")] = 10,
    decoder_epochs: Annotated[int, typer.Option(help="How many epochs for the decoder.")] = 15,
    size: Annotated[int, typer.Option(help="The width of words, codes and layers.")] = 300,
    words: Annotated[int, typer.Option(help="How many words of a description count.")] = 30,
) -> None:
    """Run what is not in the result file yet."""
    torch.set_num_threads(1)
    path = out / "texts.jsonl"
    done = read(path)
    stamp = {"versions": {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg")}}
    settings = {"epochs": epochs, "decoder_epochs": decoder_epochs, "size": size, "words": words}
    for seed in range(seeds):
        key = {"seed": seed, **settings}
        if any(key.items() <= line.items() for line in done):
            continue
        lines = run(seed, texts, **settings)
        append(path, *({**key, **line, **stamp} for line in lines))


if __name__ == "__main__":
    typer.run(main)
