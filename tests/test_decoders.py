"""Decoders learn what can be learnt, say how sure they are, survive a file, and notice when they diverge."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from pykeen_advneg.errors import ConfigurationError, DivergenceError
from pykeen_advneg.multimodal.attribute_file import save_tensors
from pykeen_advneg.multimodal.attributes import Attribute
from pykeen_advneg.multimodal.decoders import (
    CategoricalDecoder,
    EntityDecoder,
    ImageDecoder,
    MultiHotDecoder,
    NumericDecoder,
    TextDecoder,
    bleu,
    load_decoder,
    make_decoder,
    rouge_l,
)
from pykeen_advneg.multimodal.decoders.base import check_finite
from pykeen_advneg.multimodal.decoders.players import Players

D = 6


def embeddings(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def test_numbers_and_their_intervals() -> None:
    """A linear number with noise: much better than the mean; intervals hold as often as they say."""
    x, new = embeddings(600), embeddings(2000, seed=1)
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 0.0])
    noise = torch.randn(2600, generator=torch.Generator().manual_seed(2))
    y, wanted = 50 + 10 * (x @ weights + 0.3 * noise[:600]), 50 + 10 * (new @ weights + 0.3 * noise[600:])
    decoder = NumericDecoder(embedding_dim=D, mean=float(y.mean()), std=float(y.std()))
    losses = decoder.fit(x, y, use_tqdm=False)
    assert losses[0] > losses[-1]
    made = decoder.predict(new, alpha=0.2)
    rmse = (made.value - wanted).square().mean().sqrt()
    assert rmse < 0.3 * wanted.std()
    covered = ((made.low <= wanted) & (wanted <= made.high)).float().mean()
    # sixty rows calibrate: the coverage has a standard deviation of about .05
    assert 0.65 < covered < 0.95
    assert bool(decoder.predict(new[:1], alpha=0.001).high.isinf()), "too few rows to be so sure"
    with pytest.raises(ConfigurationError, match="alpha"):
        decoder.predict(new, alpha=0)


def test_conformal_quantile() -> None:
    decoder = NumericDecoder(embedding_dim=D, num_residuals=9)
    decoder.residuals = torch.arange(1.0, 10.0)
    # of nine errors, the ceil(10 * 0.9) = 9th
    made = decoder.predict(embeddings(1), alpha=0.1)
    assert float(made.high - made.value) == pytest.approx(9.0, abs=1e-5)
    assert float(decoder.predict(embeddings(1), alpha=0.5).high - made.value) == pytest.approx(5.0, abs=1e-5)


def test_categories_and_labels() -> None:
    x, new = embeddings(400), embeddings(200, seed=1)
    decoder = CategoricalDecoder(embedding_dim=D, num_categories=3)
    decoder.fit(x, x[:, :3].argmax(dim=1), use_tqdm=False)
    p = decoder.predict(new)
    assert torch.allclose(p.sum(dim=1), torch.ones(200), atol=1e-5)
    assert (p.argmax(dim=1) == new[:, :3].argmax(dim=1)).float().mean() > 0.8
    labels = MultiHotDecoder(embedding_dim=D, num_labels=2)
    labels.fit(x, x[:, :2] > 0, use_tqdm=False)
    assert ((labels.predict(new) > 0.5) == (new[:, :2] > 0)).float().mean() > 0.85


TEXTS = [f"the {colour} {animal} sleeps" for colour in ("red", "blue", "green") for animal in ("dog", "cat", "cow")] * 4


def text_decoder(**kwargs: Any) -> TextDecoder:
    return TextDecoder(embedding_dim=D, word_dim=12, hidden_dim=16, max_length=6, **kwargs)


def test_texts() -> None:
    decoder = text_decoder()
    losses = decoder.fit(embeddings(36), TEXTS, use_tqdm=False, epochs=16, batch_size=12)
    assert losses[-1] < 0.8 * losses[0], "the autoencoder learns to write"
    texts = decoder.sample(embeddings(5, seed=1))
    known = {"the", "red", "blue", "green", "dog", "cat", "cow", "sleeps"}
    assert all(set(text.split()) <= known for text in texts)
    assert all(len(text.split()) <= 6 for text in texts)
    assert decoder.sample(embeddings(5, seed=1)) == texts
    assert decoder.sample(embeddings(5, seed=1), temperature=1.0, seed=1) != decoder.sample(
        embeddings(5, seed=1), temperature=1.0, seed=2
    )


@pytest.mark.slow
def test_texts_are_those_of_their_entities() -> None:
    x, new = embeddings(64), embeddings(40, seed=1)
    texts = ["red dog" if sign else "blue cat" for sign in x[:, 0] > 0]
    decoder = text_decoder()
    rates = {"critic_lr": 1e-3, "generator_lr": 1e-3, "clamp": 0.1, "critic_steps": 2}
    decoder.fit(x, texts, use_tqdm=False, epochs=20, batch_size=16, **rates)
    made = decoder.sample(new)
    wanted = ["red dog" if sign else "blue cat" for sign in new[:, 0] > 0]
    assert sum(a == b for a, b in zip(made, wanted, strict=True)) >= 32


def test_words_which_are_not_known_are_not_written() -> None:
    decoder = text_decoder(max_words=6)
    decoder.fit(embeddings(36), TEXTS, use_tqdm=False, epochs=4, batch_size=12)
    assert decoder.settings["tokens"] == ["<pad>", "<oov>", "<sos>", "<eos>", "sleeps", "the"]
    assert {word for text in decoder.sample(embeddings(9, seed=1)) for word in text.split()} <= {"the", "sleeps"}


def test_codes_lie_on_the_sphere() -> None:
    decoder = text_decoder(tokens=["<pad>", "<oov>", "<sos>", "<eos>", "a", "b"])
    tokens = torch.tensor([[4, 5, 3], [4, 3, 0]])
    codes = decoder.encode(tokens, torch.tensor([3, 2]))
    assert torch.allclose(codes.norm(dim=1), torch.ones(2))
    # what stands behind the end does not matter
    assert torch.allclose(decoder.encode(tokens[1:, :2], torch.tensor([2])), codes[1:], atol=1e-6)
    # each word is written given those before it only
    logits = decoder.write(codes, tokens)
    changed = decoder.write(codes, torch.tensor([[4, 4, 3], [4, 3, 0]]))
    assert torch.allclose(logits[:, :2], changed[:, :2])
    assert not torch.allclose(logits[0, 2], changed[0, 2])


def test_turns_by_hand() -> None:
    """One step of the critic: clamped weights; the encoder moves against it, in the size of its last step."""
    torch.manual_seed(0)
    decoder = text_decoder(tokens=["<pad>", "<oov>", "<sos>", "<eos>", "a", "b", "c"])
    batch = (torch.randint(4, 7, (8, 4)), torch.full((8,), 4), embeddings(8))
    players = Players(decoder, lr=0.5, critic_lr=1e-3, generator_lr=1e-3, clamp=0.01, scale=0.1)
    players.reconstruct(*batch, 0.0)
    norm = players.norm
    assert norm > 0
    before = {name: p.detach().clone() for name, p in decoder.named_parameters()}
    with torch.no_grad():
        for p in decoder.critic.parameters():
            p.clamp_(-0.01, 0.01)
    state = torch.get_rng_state()
    codes = decoder.encode(*batch[:2])
    made = decoder.generate_codes(batch[2]).detach()
    condition = nn.functional.normalize(batch[2], dim=-1)
    loss = (
        decoder.critic(torch.cat([codes, condition], 1)).mean() - decoder.critic(torch.cat([made, condition], 1)).mean()
    )
    gradient = torch.autograd.grad(loss, codes)[0]
    decoder.zero_grad()
    codes = decoder.encode(*batch[:2])
    codes.backward(-0.1 * gradient * norm / gradient.norm())
    clip_grad_norm_(players.autoencoder_parameters, 1.0)
    expected = {n: before[n] - 0.5 * p.grad for n, p in decoder.reader.named_parameters(prefix="reader")}
    decoder.zero_grad()
    torch.set_rng_state(state)
    assert players.criticize(*batch) == pytest.approx(loss.item(), abs=1e-6)
    for name, value in decoder.named_parameters():
        if name in expected:
            assert torch.allclose(value, expected[name], atol=1e-5), name
        elif name.startswith(("writer", "output", "generator")):
            assert torch.equal(value, before[name]), name
    assert all(float(p.abs().max()) <= 0.01 + 1e-3 for p in decoder.critic.parameters())
    before = {name: p.detach().clone() for name, p in decoder.named_parameters()}
    players.generate(batch[2])
    moved = {name.split(".")[0] for name, p in decoder.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"generator"}
    # both go downhill: the generator makes codes which the critic takes for true ones, the critic tells them apart
    opinions = [players.generate(batch[2]) for _ in range(20)]
    assert opinions[-1] < opinions[0]
    losses = [players.criticize(*batch) for _ in range(20)]
    assert losses[-1] < losses[0]


def pictures(n: int) -> torch.Tensor:
    """Bright where the first component is positive, dark elsewhere."""
    bright = (embeddings(n)[:, 0] > 0).view(-1, 1, 1, 1)
    return torch.where(bright, 220, 30).expand(n, 3, 8, 8).to(torch.uint8).contiguous()


def test_pictures() -> None:
    decoder = ImageDecoder(embedding_dim=D, image_size=8, width=8, code_dim=4, condition_dim=8)
    x, true = embeddings(32), pictures(32)
    measures = decoder.fit(x, true, use_tqdm=False, epochs=30, lr=2e-3)
    assert min(measures) < 0.5 * measures[0]
    made = decoder.sample(x)
    assert made.shape == true.shape
    assert made.dtype == torch.uint8
    assert torch.equal(made, decoder.sample(x))
    assert decoder.sample(x, batch_size=5).shape == true.shape
    with pytest.raises(ConfigurationError, match="beyond -1 and 1"):
        decoder.fit(x, true.float(), use_tqdm=False)
    assert 0 <= float(decoder.balance) <= 1
    with pytest.raises(ConfigurationError, match="bring them to"):
        decoder.fit(x, true[:, :, :4], use_tqdm=False)
    with pytest.raises(ConfigurationError, match="image_size=20"):
        ImageDecoder(embedding_dim=D, image_size=20)
    full = ImageDecoder(embedding_dim=D, width=4)
    assert full.sample(x[:2]).shape == (2, 3, 64, 64)


@pytest.mark.slow
def test_pictures_are_those_of_their_entities() -> None:
    """By the likeness to the true picture alone, the generator learns what the condition tells."""
    torch.manual_seed(0)
    decoder = ImageDecoder(embedding_dim=D, image_size=8, width=8, code_dim=4, condition_dim=8)
    x, true = embeddings(32), pictures(32).float() / 127.5 - 1
    still = torch.optim.SGD(decoder.painter.parameters(), lr=0.0)
    painter = torch.optim.Adam(decoder.generator.parameters(), lr=2e-3)
    for _ in range(100):
        decoder._step(true, x, still, painter, likeness=1.0)
    made, bright = decoder.sample(x).float(), x[:, 0] > 0
    assert float(made[bright].mean()) > float(made[~bright].mean()) + 60


def test_losses_of_began_by_hand() -> None:
    torch.manual_seed(0)
    decoder = ImageDecoder(embedding_dim=D, image_size=8, width=4, code_dim=3, condition_dim=5)
    decoder.balance.fill_(0.4)
    x, true = embeddings(4), torch.rand(4, 3, 8, 8) * 2 - 1
    seen: list[torch.Tensor] = []
    original = torch.Tensor.backward

    def backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        seen.append(loss.detach().clone())
        original(loss, *args, **kwargs)

    still = [torch.optim.SGD(decoder.parameters(), lr=0.0) for _ in range(2)]
    state = torch.get_rng_state()
    with mock.patch.object(torch.Tensor, "backward", backward):
        decoder._step(true, x, *still, likeness=0.25)
    torch.set_rng_state(state)
    with torch.no_grad():
        c = nn.functional.elu(decoder.conditioner(x))
        made = decoder.generator(torch.cat([torch.randn(4, 3), c], 1))

        def error(p: torch.Tensor) -> torch.Tensor:
            return (p - decoder.painter(torch.cat([decoder.reader(p), c], 1))).abs().mean()

        assert torch.allclose(seen[0], error(true) - 0.4 * error(made), atol=1e-6)
        assert torch.allclose(seen[1], 0.75 * error(made) + 0.25 * (true - made).abs().mean(), atol=1e-6)


def trained() -> list[EntityDecoder]:
    x = embeddings(40)
    small = ImageDecoder(embedding_dim=D, image_size=8, width=4, code_dim=3, condition_dim=4)
    decoders: list[tuple[EntityDecoder, Any]] = [
        (NumericDecoder(embedding_dim=D), x[:, 0]),
        (CategoricalDecoder(embedding_dim=D, num_categories=2), (x[:, 0] > 0).long()),
        (MultiHotDecoder(embedding_dim=D, num_labels=2), x[:, :2] > 0),
        (text_decoder(noise_dim=2), [*TEXTS, *TEXTS[:4]]),
        (small, pictures(40)),
    ]
    for decoder, targets in decoders:
        decoder.fit(x, targets, use_tqdm=False, epochs=2)
    return [decoder for decoder, _ in decoders]


def outputs(decoder: EntityDecoder) -> Any:
    x = embeddings(3, seed=5)
    if isinstance(decoder, TextDecoder | ImageDecoder):
        return decoder.sample(x)
    return decoder.predict(x)


def test_saved_and_reproducible(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = trained()
    state = torch.get_rng_state()
    for one in first:
        one.save(tmp_path / "decoder.safetensors")
        loaded = load_decoder(tmp_path / "decoder.safetensors")
        mine, theirs = outputs(one), outputs(loaded)
        assert type(loaded) is type(one)
        assert mine == theirs if isinstance(mine, list) else all(map(torch.equal, mine, theirs))
    assert torch.equal(torch.get_rng_state(), state), "to sample leaves the random state alone"
    torch.manual_seed(1)
    for one, other in zip(first, trained(), strict=True):
        if isinstance(one, NumericDecoder | CategoricalDecoder | MultiHotDecoder | TextDecoder):
            a, b = one.state_dict(), other.state_dict()
            assert [key for key in a if not torch.equal(a[key], b[key])] == [], "the seed of fit decides"


def test_files_of_others(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": torch.zeros(1)}, {"decoder": "os.system"})
    with pytest.raises(ConfigurationError, match="holds no decoder"):
        load_decoder(tmp_path / "x")
    save_tensors(tmp_path / "y", {"a": torch.zeros(1)}, {"decoder": "numeric", "settings": {"embedding_dim": 2}})
    with pytest.raises(ConfigurationError, match="no whole decoder"):
        load_decoder(tmp_path / "y")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_decoder(tmp_path / "nothing")


def test_divergence() -> None:
    with pytest.raises(DivergenceError, match="critic is nan"):
        check_finite("text", cross_entropy=1.0, critic=float("nan"))
    x = embeddings(40)
    for decoder, targets in (
        (NumericDecoder(embedding_dim=D), x[:, 0] * float("inf")),
        (ImageDecoder(embedding_dim=D, image_size=8, width=4), torch.full((40, 3, 8, 8), float("nan"))),
    ):
        with pytest.raises(DivergenceError, match="has diverged"):
            decoder.fit(x, targets, use_tqdm=False, epochs=1)
    with pytest.raises(DivergenceError, match="'text' has diverged"):
        text_decoder().fit(x, [*TEXTS, *TEXTS[:4]], use_tqdm=False, epochs=2, batch_size=8, lr=1e38)


def test_what_does_not_fit() -> None:
    decoder = NumericDecoder(embedding_dim=D)
    with pytest.raises(ConfigurationError, match="at least 10"):
        decoder.fit(embeddings(3), torch.zeros(3), use_tqdm=False)
    with pytest.raises(ConfigurationError, match="not finite"):
        decoder.fit(embeddings(20) / 0, torch.zeros(20), use_tqdm=False)
    every: list[tuple[EntityDecoder, Any]] = [
        (decoder, torch.zeros(20)),
        (text_decoder(), TEXTS[:20]),
        (ImageDecoder(embedding_dim=D, image_size=8, width=4), pictures(20)),
    ]
    for each, targets in every:
        with pytest.raises(ConfigurationError, match="batch_size=1 "):
            each.fit(embeddings(20), targets, use_tqdm=False, batch_size=1)
        with pytest.raises(ConfigurationError, match="epochs=0 "):
            each.fit(embeddings(20), targets, use_tqdm=False, epochs=0)
    with pytest.raises(ConfigurationError, match="unconditional"):
        text_decoder(conditional=False)
    with pytest.raises(ConfigurationError, match="must be"):
        make_decoder(Attribute("x", "images", 0, torch.zeros(2, 5)), D)
    assert text_decoder(conditional=False, noise_dim=3).generate_codes(embeddings(2)).shape == (2, 16)


def test_scores_of_texts() -> None:
    same = ["the cat sat on the mat today"]
    assert bleu(same, same) == pytest.approx(1.0)
    assert rouge_l(same, same) == pytest.approx(1.0)
    # unigrams 4 / 5, bigrams (2 + 1) / (4 + 1), trigrams (1 + 1) / (3 + 1); as long as the reference
    expected = (4 / 5 * 3 / 5 * 2 / 4) ** (1 / 3)
    assert bleu(["a b c x e"], ["a b c d e"], order=3) == pytest.approx(expected)
    # half as long: exp(1 - 2)
    assert bleu(["a b"], ["a b c d"], order=1) == pytest.approx(2.718281828**-1)
    # "the the" is clipped to one
    assert bleu(["the the"], ["the cat"], order=1) == pytest.approx(0.5)
    # a c e of five each
    assert rouge_l(["a x c y e"], ["a b c d e"]) == pytest.approx(3 / 5)
    assert rouge_l(["x"], ["y"]) == 0
    with pytest.raises(ConfigurationError, match="one for each"):
        bleu([], [])
