"""The captioner asked for the class, and the generator that hears nothing but names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_clts import AutoCaptioner, LabelCaptioner, Pair, load_pair
from avalanche_clts.asking import LikeliestClass
from avalanche_clts.experiments import compare
from avalanche_clts.experiments.rows import ROWS
from avalanche_clts.experiments.rows.clts import remembering
from avalanche_clts.experiments.runs.runner import build, run
from avalanche_clts.experiments.strategies.captioner import AskedModel, NamedClass
from avalanche_clts.memory.origins import names_in_words
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK
from tests.test_families import captioner_folder, pictures  # noqa: F401 - a fixture

# The score itself


def test_a_texts_likelihood_is_that_with_which_the_model_says_it(captioner_folder: Path) -> None:  # noqa: F811
    """Every family's: what `generate` gave each token that it took, with and without a prompt's tokens before it."""
    captioner = AutoCaptioner(captioner_folder)
    if captioner.log_likelihoods is None:
        assert "does not say how likely" in str(ROWS["captioner"].unfit_pair(Pair(captioner, None)))
        return
    loaded, images = captioner._load(), pictures(3)
    for image in images:
        pixels = captioner._pixels([image])
        text = "a photo of a thin seven"
        ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
        expected = 0.0
        for i, token in enumerate(ids):  # a step of generation at a time, led by the words before
            told = loaded.told(loaded.tokenizer.decode(ids[:i])) if i else None
            start = {} if told is None else {told.argument: torch.tensor([told.ids])}
            if told is None and loaded.model.config.model_type == "blip-2":  # whose `generate` would begin with a token
                config = loaded.model.config  # that this tokenizer puts before no prompt
                start = {"input_ids": torch.tensor([[config.image_token_id] * config.num_query_tokens])}
            if told is not None:
                own = loaded.tokenizer(loaded.tokenizer.decode(ids[:i]), add_special_tokens=False).input_ids
                assert own == ids[:i]
            out = loaded.model.generate(
                pixel_values=pixels,
                **start,
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            expected += out.logits[0][0].float().log_softmax(-1)[token].item()
        ((found,),) = captioner.log_likelihoods([image], [[text]])
        assert found == pytest.approx(expected, abs=1e-3)


def test_likelihoods_depend_on_no_batch(captioner_folder: Path) -> None:  # noqa: F811
    if AutoCaptioner(captioner_folder).log_likelihoods is None:
        return
    images = pictures(5)
    texts = [["seven", "a thin eight"], ["two"], ["a photo of a seven"], ["one", "two", "three"], ["a thin eight"]]
    together = AutoCaptioner(captioner_folder, batch_size=3).log_likelihoods(images, texts)
    alone = AutoCaptioner(captioner_folder, batch_size=1)
    for image, asked, found in zip(images, texts, together, strict=True):
        one_by_one = [alone.log_likelihoods([image], [[text]])[0][0] for text in asked]
        assert found == pytest.approx(one_by_one, abs=1e-4)
    with pytest.raises(ValueError, match="texts has 1 lists for 5 images"):
        alone.log_likelihoods(images, [["seven"]])
    with pytest.raises(ValueError, match=r"the text '' has .* tokens with those before it, of which 0 its own"):
        alone.log_likelihoods(images[:1], [[""]])
    with pytest.raises(ValueError, match="tokens with those before it"):
        alone.log_likelihoods(images[:1], [["seven " * 50]])


# The rows


def accuracy(strategy: str, pair: Pair, experiences: int = 5) -> list[float]:
    asked = replace(QUICK, stream=f"digits:experiences={experiences}")
    agent, benchmark = build(asked, strategy, 0, stream=parse_stream(asked.stream), pair=pair)
    for experience in benchmark.train_stream:
        agent.train(experience)
    metrics = agent.eval(benchmark.test_stream)
    return [v for k, v in metrics.items() if k.startswith("Top1_Acc_Exp")]


@pytest.mark.parametrize("strategy", ["captioner", "captioner-free"])
def test_the_embedded_captioner_names_digits_without_learning(strategy: str, embedded_pair: Pair) -> None:
    """As often as its quality report says (98.2 %), and among the classes seen so far."""
    assert np.mean(accuracy(strategy, embedded_pair)) > 0.97


@pytest.mark.parametrize("strategy", ["captioner", "captioner-free"])
def test_nothing_is_kept_but_names(strategy: str, tiny_pair: Pair) -> None:
    result = run(QUICK, strategy, 0, stream=parse_stream("digits:experiences=2"), pair=tiny_pair)
    names = "zero one two three four five six seven eight nine"
    kept = {"captions": len(names), "exemplars": 0, "heads": 0, "router": 0, "network": 0}
    assert result["memory_bytes"] == kept
    assert result["accuracy_matrix"][0][1] == 0, "of classes that were not seen, none is named"


class Told:
    """A captioner of images of one grey, which is told the class: lighter is a later class."""

    prefix = "an image of a {class_name}"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def caption(self, images, class_names=None):
        return ["something grey beside a two"] * len(images)

    def log_likelihoods(self, images, texts):
        self.asked += texts[0]
        return [np.arange(len(of_image), dtype=np.float32) for of_image in texts]


def heard(kind: type, captioner: object) -> object:
    model = AskedModel(kind(captioner), 10)
    for experience in parse_stream("digits").build(0).train_stream[:2]:
        model.learn(experience, iter(()))
    return model


def test_a_captioner_that_is_told_the_class_is_asked_in_its_own_prompt() -> None:
    captioner = Told()
    model = heard(LikeliestClass, captioner)
    output = model(torch.rand(3, 1, 8, 8))
    assert captioner.asked == [f"an image of a{'n' * (n == 'eight')} {n}" for n in model.asked.names.values()]
    assert output.argmax(1).tolist() == [list(model.asked.names)[-1]] * 3


def test_a_free_caption_counts_for_the_first_class_that_it_names() -> None:
    captioner = Told()
    model = heard(NamedClass, captioner)
    model.asked.names = {3: "three", 2: "two", 7: "grey"}
    assert model(torch.rand(1, 1, 8, 8)).argmax(1).tolist() == [7]
    model.asked.names, model.asked._known = {3: "three", 5: "five"}, {}
    assert model(torch.rand(1, 1, 8, 8)).argmax(1).tolist() == [3], "the first class where it names none"


def test_rows_that_cannot_ask_are_refused(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    reason = ROWS["captioner"].unfit_pair(Pair(LabelCaptioner(), None))
    assert reason == "a LabelCaptioner does not say how likely it finds a text"
    assert names_in_words(parse_stream("digits").build(0).train_stream[0].dataset) is not None
    monkeypatch.setattr("avalanche_clts.memory.origins.names_in_words", lambda dataset: None)
    with pytest.raises(ValueError, match="captioner, which cannot run on digits: the captioner is asked"):
        compare(replace(QUICK, strategies=("captioner",), seeds=1, pair=str(tiny_pair_folder)), out=tmp_path)


def test_the_generator_hears_nothing_but_names(tiny_pair: Pair) -> None:
    def refuse(images: list[Image.Image], class_names: object = None) -> list[str]:
        raise AssertionError("an image was captioned")

    prompts: list[str] = []

    class Listening:
        def caption(self, images, class_names=None):
            return refuse(images)

        def generate(self, texts, seeds):
            prompts.extend(texts)
            return tiny_pair.generator.generate(texts, seeds)

    both = Listening()
    asked = replace(QUICK, hyperparameters={"clts": {"replay_size": 12, "router_epochs": 1}})
    agent, benchmark = build(asked, "name-only", 0, stream=parse_stream("digits"), pair=Pair(both, both))
    for experience in benchmark.train_stream[:2]:
        agent.train(experience)
    assert len(prompts) == 12, "CLTS's hyper-parameters are its own where it has none"
    assert set(prompts) == {f"a{'n' * (n == 'eight')} {n}" for n in _seen(benchmark)}
    memory = agent.plugins[0].storage_policy.memory
    assert len(memory) == 4, "a name a class"


def _seen(benchmark: object) -> list[str]:
    return [name for e in benchmark.train_stream[:2] for name in names_in_words(e.dataset).values()]


@pytest.mark.parametrize("prefix", ["a photo of a {class_name}", None])
def test_class_names_alone_begin_as_the_pairs_captions_do(tiny_pair_folder: Path, prefix: str | None) -> None:
    pair = load_pair(tiny_pair_folder, captioner={"prefix": prefix})
    told = remembering(pair, "labels").captioner.caption([Image.new("RGB", (8, 8))], ["seven"])
    assert told == ["a seven" if prefix is None else "a photo of a seven"]
