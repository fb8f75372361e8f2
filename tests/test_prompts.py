"""Class names in words: from the labels of data sets, and into prompts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.datasets.tiny_imagenet.tiny_imagenet import TinyImagenet
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import MNIST, FashionMNIST
from torchvision.transforms import ToTensor

from avalanche_clts import CaptionBuffer, LabelCaptioner, Pair
from avalanche_clts.pair import prompts
from avalanche_clts.pair.decoding import without_loops
from avalanche_clts.pair.prompts import article, fill, words, words_of
from avalanche_clts.streams.benchmarks import ImageDataset


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("aquarium_fish", "aquarium fish"),
        ("0 - zero", "zero"),
        ("T-shirt/top", "T-shirt or top"),
        ("AnnualCrop", "annual crop"),
        ("TVStand", "TV stand"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02085620-Chihuahua", "Chihuahua"),
        ("plug_adapter1", "plug adapter 1"),
        ("__cat__ ", "cat"),
        # What is words already, and what only looks like a label.
        ("sweet pepper", "sweet pepper"),
        ("Ankle boot", "Ankle boot"),
        ("pick-up truck", "pick-up truck"),
        ("747-400", "747-400"),
        ("3.5 inch disk", "3.5 inch disk"),
        ("mp3 player", "mp3 player"),
        ("iPhone", "iPhone"),
        ("N/A", "N/A"),
        ("a", "a"),
        ("_", "_"),
        ("cafe\u0301", "café"),
    ],
)
def test_labels_become_words(label: str, said: str) -> None:
    assert words(label) == said


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{0,3}[ ._-]{0,3}[A-Za-z_/]{1,12}[0-9]{0,2}", fullmatch=True))
def test_words_stay_as_they_are(label: str) -> None:
    assert words(words(label)) == words(label)
    assert words(label) or not label


def test_labels_of_a_data_set_tell_together_what_they_mean() -> None:
    assert words_of(["1_cat", "2_dog", "10_aquarium_fish"]) == ["cat", "dog", "aquarium fish"]
    assert words_of(["1_euro", "2_euro"]) == ["1 euro", "2 euro"]
    assert words_of(["1_cat"]) == ["1 cat"]
    assert words_of(["1.cat", "2.dog", "3.cat"]) == ["1.cat", "dog", "3.cat"]
    assert words_of(["SeaLake", "sea_lake"]) == ["SeaLake", "sea_lake"]
    assert words_of(["007_cat", "012_dog"]) == ["cat", "dog"]
    assert words_of(["2_door_car", "4_wheel_drive"]) == ["2 door car", "4 wheel drive"]
    assert words_of(["707-320", "A300"]) == ["707-320", "A300"]
    assert words_of(["SeaLake", "Forest"]) == ["sea lake", "forest"]
    assert words_of(["Dress", "Ankle boot"]) == ["Dress", "Ankle boot"]


def test_wordnet_ids_mean_what_words_txt_says(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text('n01443537\tgoldfish, Carassius auratus\nn00000001\tone\'s "own", mine\n')
    assert words_of(["n01443537", "n00000001", "cat"], tmp_path) == ["goldfish", 'one\'s "own"', "cat"]
    assert words_of(["n01443537"], tmp_path / "train") == ["goldfish"]


def test_wordnet_ids_mean_what_timm_says() -> None:
    pytest.importorskip("timm")
    assert words("n02795169") == "barrel"
    assert words("n99999999") == "n99999999"
    assert words("n01443537", {"n01443537": "golden fish"}) == "golden fish"


def test_without_timm_wordnet_ids_stay_and_it_is_said(monkeypatch, caplog) -> None:
    for known in (prompts._timm_meaning, prompts._no_timm):
        known.cache_clear()
    monkeypatch.setitem(sys.modules, "timm.data", None)  # importing it is an ImportError
    assert words_of(["n01443537", "n02795169"]) == ["n01443537", "n02795169"]
    assert caplog.text.count("avalanche-clts[wordnet]") == 1
    for known in (prompts._timm_meaning, prompts._no_timm):
        known.cache_clear()


AN = "apple ibis airplane hour honest hourglass heirloom umbrella onion urn unidentified élan Eskimo X-ray LCD 8 18 80"
A = "cat unicorn university uniform ukulele urinal European ewe one honeycomb horse yawl T-shirt U-turn UFO 7 100"


def test_article_suits_the_sound() -> None:
    assert [name for name in AN.split() if article(name) != "an"] == []
    assert [name for name in A.split() if article(name) != "a"] == []
    assert [article(letter) for letter in "abcfhux"] == ["an", "a", "a", "an", "an", "a", "an"]
    assert article("aquarium fish") == "an"
    assert article("sunglasses") == article("scissors 1") == ""
    assert article("pair of scissors") == "a"


def test_template_takes_the_article_that_the_name_wants() -> None:
    assert fill("a photo of a {class_name}", "apple") == "a photo of an apple"
    assert fill("a photo of an {class_name}", "cat") == "a photo of a cat"
    assert fill("A {class_name}, {{an}} {class_name}", "owl") == "An owl, {an} owl"
    assert fill("a handwritten digit {class_name}", "eight") == "a handwritten digit eight"
    assert fill("a photo of a {class_name}", "scissors") == "a photo of scissors"
    assert fill("pizza {class_name}", "apple") == "pizza apple"
    assert LabelCaptioner().caption([], ["apple", "car"]) == ["a photo of an apple", "a photo of a car"]


def test_template_of_a_stream_replaces_the_captioners_own(tiny_pair: Pair) -> None:
    template = "a handwritten digit {class_name}"
    assert LabelCaptioner().with_prefix(template).caption([], ["six"]) == ["a handwritten digit six"]
    assert tiny_pair.captioner.with_prefix(template) is tiny_pair.captioner  # it finds all words itself
    tiny_pair.captioner.prefix = "a {class_name}"
    assert tiny_pair.captioner.with_prefix(template).prefix == template
    assert tiny_pair.captioner.prefix == "a {class_name}"


def _names(source, **options) -> dict[int, str] | None:
    classes = len(getattr(source, "classes", None) or source.id2label)
    benchmark = nc_benchmark(
        source, source, 1, False, fixed_class_order=list(range(classes)), train_transform=ToTensor()
    )
    buffer = CaptionBuffer(pair=Pair(LabelCaptioner(), Silent()), captions_per_class=1, **options)
    buffer.post_adapt(None, benchmark.train_stream[0])
    assert [c.text for c in buffer.memory] == [
        fill("a photo of a {class_name}", n) for n in buffer.origins[0].names.values()
    ]
    return buffer.origins[0].names


class Silent:
    def generate(self, prompts, seeds):
        raise AssertionError("nothing is to be generated")


def _pictures(classes: list[str]) -> ImageDataset:
    return ImageDataset([Image.new("L", (4, 4), 9 * i) for i in range(len(classes))], range(len(classes)), classes)


def test_names_of_a_data_set_come_in_as_words() -> None:
    assert list(_names(_pictures(MNIST.classes)).values())[:2] == ["zero", "one"]
    assert _names(_pictures(FashionMNIST.classes))[0] == "T-shirt or top"


def test_names_that_the_user_gives_are_taken_as_they_are() -> None:
    given = {0: "0 - nought", 1: "T-shirt/top", 2: "AnnualCrop", 3: "n01443537"}
    assert _names(_pictures(["a", "b", "c", "d"]), class_names=given) == given


def test_imagenets_names_are_the_first_of_their_words() -> None:
    assert _names(_pictures([("tench", "Tinca tinca"), ("great_white_shark", "white shark")])) == {
        0: "tench",
        1: "great white shark",
    }


def test_tiny_imagenets_names_are_found_beside_it(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    ids = [f"n{i:08}" for i in range(200)]
    for wordnet_id in ids:
        (root / "train" / wordnet_id / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / "train" / wordnet_id / "images" / "0.png")
    (root / "wnids.txt").write_text("".join(f"{i}\n" for i in reversed(ids)))
    (root / "words.txt").write_text("".join(f"{i}\tthing {int(i[1:])}, object\n" for i in ids))
    source = TinyImagenet(tmp_path, train=True, download=False)
    assert _names(source) == {k: f"thing {199 - k}" for k in range(200)}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a photo of a cat cat cat", "a photo of a cat"),
        ("cat cat cat cat on a bed", "cat on a bed"),
        ("a red car, a red car, a red car and a tree", "a red car and a tree"),
        ("in the sky in the sky in the sky", "in the sky"),
        ("the the the dog dog dog", "the dog"),
        ("a cat a cat a cat cat cat", "a cat"),
        # Twice is no loop, and a loop is of whole words.
        ("a cat cat on a bed", "a cat cat on a bed"),
        ("on top of a hat on top of a hat", "on top of a hat on top of a hat"),
        ("a cat cat catalogue", "a cat cat catalogue"),
        ("a small striped red star on navy", "a small striped red star on navy"),
    ],
)
def test_loops_are_cut(said: str, kept: str) -> None:
    assert without_loops(said) == kept


def test_nucleus_draws_from_the_likeliest_words_as_often_as_they_are_likely() -> None:
    from avalanche_clts.pair.decoding import _Nucleus

    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.3])
    rows = 4000
    draw = _Nucleus(0.9, range(rows))
    drawn = draw(torch.zeros(rows, 1), probabilities.log().expand(rows, 4)).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / rows
    # 0.5 + 0.3 + 0.15 is the least that reaches 0.9.
    assert torch.allclose(shares, torch.tensor([0, 0.5, 0.15, 0.3]) / 0.95, atol=0.03)
    assert shares[0] == 0
    only = _Nucleus(0.4, range(50))(torch.zeros(50, 1), probabilities.log().expand(50, 4)).argmax(-1)
    assert set(only.tolist()) == {1}
