"""A user hears whether the pair knows the images."""

from __future__ import annotations

import pytest
from avalanche.training.plugins import EvaluationPlugin
from PIL import Image

from avalanche_clts import LabelCaptioner, Pair, clts_metrics, split_digits
from tests.conftest import make_clts

PREFIX = "PairFit/train_phase/train_stream/Task000"


def train(pair: Pair) -> dict[str, float]:
    clts = make_clts(pair, train_epochs=10, replay_size=60, evaluator=EvaluationPlugin(clts_metrics()))
    for experience in split_digits(5, fixed_class_order=range(10)).train_stream[:2]:
        metrics = clts.train(experience)
    return {name.rsplit("/", 1)[1]: value for name, value in metrics.items() if name.startswith(PREFIX)}


def test_pair_that_knows_the_images_is_not_told_of(embedded_pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    fit = train(embedded_pair)
    assert fit["captions_named"] > 0.8
    assert fit["real_recognised"] > 0.9
    assert fit["regenerated_recognised"] > 0.7
    assert "does not seem to know" not in caplog.text


class Elsewhere:
    """Says and draws what these images do not show."""

    def caption(self, images, class_names=None):
        return ["a small striped cyan bolt"] * len(images)

    def generate(self, prompts, seeds):
        return [Image.new("RGB", (8, 8), (40, 60, 90)) for _ in prompts]


def test_pair_that_does_not_know_them_is(caplog: pytest.LogCaptureFixture) -> None:
    other = Elsewhere()
    fit = train(Pair(other, other))
    assert fit["captions_named"] == 0
    assert fit["regenerated_recognised"] <= 0.5 < fit["real_recognised"]
    assert "0% of its captions name their class" in caplog.text
    assert "embedded-mnist-blood knows MNIST's digits and peripheral blood cells" in caplog.text
    assert "clts pretrain" in caplog.text


def test_images_that_show_nothing_are_told_of_even_if_captions_are_right(caplog: pytest.LogCaptureFixture) -> None:
    fit = train(Pair(LabelCaptioner("a {class_name}"), Elsewhere()))
    assert fit["captions_named"] == 1
    if fit["regenerated_recognised"] < fit["real_recognised"] / 2:
        assert "of the regenerated images" in caplog.text
