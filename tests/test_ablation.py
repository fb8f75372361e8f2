"""What varies in an ablation varies, and nothing is computed twice; the search for hyper-parameters."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from avalanche_clts import LabelCaptioner, Pair
from avalanche_clts.cli import main
from avalanche_clts.experiments import ablate, compare
from avalanche_clts.experiments.ablation import plan
from avalanche_clts.experiments.page.figures import class_accuracy
from avalanche_clts.experiments.page.memory_curve import areas
from avalanche_clts.experiments.page.table import format_ablations, format_markdown_ablations
from avalanche_clts.experiments.rows.stored_images import stored_images
from avalanche_clts.experiments.runs import execution
from avalanche_clts.experiments.runs.results import merged
from avalanche_clts.experiments.variants import ABLATIONS
from avalanche_clts.pair.generators import DiffusionGenerator
from avalanche_clts.pair.loading import load_pair, pair_identity
from avalanche_clts.streams.embedded_digits import stream_digits
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK

# One of each kind: those left out change a number that another one changes too.
SOME = [name for name in ABLATIONS if name not in ("replay-size", "guidance", "caption-length")]


@pytest.fixture(scope="module")
def ablated(tiny_pair_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("ablations")
    return out, ablate(replace(QUICK, ablations=SOME, seeds=1, pair=str(tiny_pair_folder)), out=out)


def test_every_ablation_answers_with_every_variant(ablated: tuple[Path, dict]) -> None:
    out, document = ablated
    assert json.loads((out / "ablations.json").read_text()) == json.loads(json.dumps(document))
    assert list(document["ablations"]) == SOME
    for name, ablation in document["ablations"].items():
        labels = [variant["label"] for variant in ablation["variants"]]
        expected = [variant.label for variant in ABLATIONS[name].variants]
        # Ten classes divide into 2, 5 and 10 experiences alone.
        assert labels == (["2", "5", "10"] if name == "experiences" else expected)
        assert all(len(variant["runs"]) == 1 for variant in ablation["variants"])
    with (out / "ablations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = [(name, v["label"]) for name, a in document["ablations"].items() for v in a["variants"]]
    assert [(row["ablation"], row["variant"]) for row in rows] == answers
    last = list(document["ablations"].values())[-1]["variants"][-1]["runs"][0]
    assert float(rows[-1]["average_accuracy"]) == last["average_accuracy"]
    assert int(rows[-1]["memory_bytes.captions"]) == last["memory_bytes"]["captions"]
    text = format_ablations(document)
    assert all(ABLATIONS[name].title in text for name in SOME)


def test_streams_are_shown_side_by_side(ablated: tuple[Path, dict]) -> None:
    first = {"stream": "digits", "ablations": {"experiences": ablated[1]["ablations"]["experiences"]}}
    second = json.loads(json.dumps(first | {"stream": "shapes"}))
    del second["ablations"]["experiences"]["variants"][1]  # this one cannot be had in 5 experiences
    second["ablations"]["experiences"]["variants"][0]["runs"][0]["average_accuracy"] = 0.123
    table = format_markdown_ablations([second, first]).splitlines()
    assert table[0] == "### Number of experiences (`experiences`)"
    assert table[2].count("accuracy %") == 2
    assert [line.split(" | ")[0] for line in table[4:]] == ["| 2", "| 5", "| 10"]
    assert table[4].split(" | ")[1] == "12.3"
    assert table[5].split(" | ")[1:4] == ["-", "-", "-"]
    assert table[5].split(" | ")[4].startswith("**"), "five experiences are the default"


def test_variants_differ_in_what_they_vary(ablated: tuple[Path, dict]) -> None:
    def runs(name: str) -> dict[str, dict]:
        return {v["label"]: v["runs"][0] for v in ablated[1]["ablations"][name]["variants"]}

    captions = [run["memory_bytes"]["captions"] for run in runs("captions").values()]
    assert captions == sorted(captions)
    assert captions[-1] > 5 * captions[0]
    images = runs("router-data")["stored real images, as many as captions"]["memory_bytes"]
    assert (images["captions"], images["exemplars"]) == (0, 3 * 10 * 64)
    streams = {label: run["stream"] for label, run in runs("experiences").items()}
    assert streams == {"2": "digits:experiences=2", "5": "digits", "10": "digits:experiences=10"}
    for answer in ablated[1]["ablations"].values():
        assert len({json.dumps(v["runs"]) for v in answer["variants"] if v["default"]}) <= 1
    seconds = [json.loads(file.read_text())["seconds"] for file in (ablated[0] / "runs").glob("digits-clts-*.json")]
    assert all(s["generation"] > 0 for s in seconds)


def test_finished_variants_are_not_computed_again(ablated: tuple[Path, dict], tiny_pair_folder, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("a finished run was computed again")

    monkeypatch.setattr(execution, "run", refuse)
    out, document = ablated
    again = ablate(replace(QUICK, ablations=SOME, seeds=1, pair=str(tiny_pair_folder)), out=out)
    assert json.loads(json.dumps(again["ablations"])) == json.loads(json.dumps(document["ablations"]))


def test_part_of_the_questions_leaves_the_other_answers(
    ablated: tuple[Path, dict], tiny_pair_folder: Path, tmp_path: Path, capsys
) -> None:
    out = shutil.copytree(ablated[0], tmp_path / "copy")
    asked = replace(QUICK, ablations=["routing"], seeds=1, pair=str(tiny_pair_folder))
    again = ablate(asked, out=out, command="clts ablate --only routing")
    assert list(again["ablations"]) == SOME
    assert "replace" not in capsys.readouterr().err
    assert again["command"] == "clts ablate --only routing"
    other = ablate(asked.with_given(hyperparameters={"clts": {"replay_size": 12, "router_epochs": 2}}), out=out)
    assert list(other["ablations"]) == ["routing"], "answers about other settings were taken for these"
    assert other["settings"]["hyperparameters"]["clts"]["router_epochs"] == 2
    assert "ablations.json holds answers under other settings, which the new ones replace" in capsys.readouterr().err


def test_what_is_set_anyway_is_no_change(tiny_pair_folder: Path) -> None:
    def unchanged(name: str, **options: object) -> list[str]:
        asked = replace(QUICK, pair=str(tiny_pair_folder), ablations=[name], **options)
        planned = plan(asked, parse_stream("digits"), 5, pair_identity(asked.load_pair()))
        return [one.variant.label for one in planned if one.default]

    steps = load_pair(tiny_pair_folder).generator.steps
    other = next(int(v.label) for v in ABLATIONS["steps"].variants if int(v.label) != steps)
    assert unchanged("steps") == [str(steps)]
    assert unchanged("steps", generator={"steps": other}) == [str(other)]
    assert unchanged("routing", generator={"steps": other}) == ["soft"]
    assert unchanged("replay-size", hyperparameters={"clts": {"replay_size": 500}}) == ["500"]
    assert unchanged("experiences") == ["5"]
    assert unchanged("synthetic-data") == []


def test_report_of_ablations_alone(ablated: tuple[Path, dict], tmp_path: Path, capsys) -> None:
    out, _ = ablated
    assert main(["report", str(out), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    for name in SOME:
        assert ABLATIONS[name].title in printed
        assert f"<h3>{ABLATIONS[name].title}</h3>" in page
    assert page.count("<svg") == len(SOME) + 1  # one more by class, of how good synthetic data is
    assert main(["report", str(out), "--out", str(tmp_path), "--markdown"]) == 0
    assert "### Soft or hard routing (`routing`)" in capsys.readouterr().out
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no results.json" in capsys.readouterr().err


def test_unknown_ablation_is_refused(capsys) -> None:
    assert main(["ablate", "--only", "luck"]) == 2
    assert "--only has luck; known ablations: router-data, router-targets" in capsys.readouterr().err


def test_stored_images_come_back_as_they_were() -> None:
    images = stream_digits()[0].images[:3]
    pair = stored_images(Pair(LabelCaptioner(), None))
    captions = pair.captioner.caption(images)
    again = pair.generator.generate([captions[2], captions[0]], [0, 0])
    assert [image.convert("L").tobytes() for image in again] == [images[2].tobytes(), images[0].tobytes()]


def test_variants_that_a_pair_cannot_serve_are_left_out_and_told_of(
    tiny_pair_folder: Path, monkeypatch, capsys
) -> None:
    asked = replace(QUICK, pair=str(tiny_pair_folder), ablations=["decoder", "steps"])
    identity = pair_identity(asked.load_pair())
    every = [*ABLATIONS["decoder"].variants, *ABLATIONS["steps"].variants]
    assert [one.variant for one in plan(asked, parse_stream("digits"), 5, identity)] == every
    seeing_features = replace(asked, ablations=["view"], backbone="captioner").shown(
        asked.load_pair(), parse_stream("digits").build(0)
    )
    (left,) = plan(seeing_features, parse_stream("digits"), 5, identity)
    assert left.default
    assert "view, the input after the generator's autoencoder: left out, as router_view is" in capsys.readouterr().err
    # A generator that knows no decoder but its pipeline's.
    make = DiffusionGenerator.__init__

    def without_decoder(self, name_or_path, *, steps=None, guidance_scale=None, device="cpu", offload=None) -> None:
        make(self, name_or_path, steps=steps, guidance_scale=guidance_scale, device=device, offload=offload)

    monkeypatch.setattr(DiffusionGenerator, "__init__", without_decoder)
    left = [one.variant for one in plan(asked, parse_stream("digits"), 5, identity)]
    assert left == list(ABLATIONS["steps"].variants)
    said = capsys.readouterr().err
    assert "decoder, a linear map, at the latents' size: left out, as generator= has 'decoder'" in said


# Memory and accuracy, and reports of several folders


def made_run(strategy: str, nbytes: int, accuracy: float, seed: int = 0) -> dict:
    memory = {"captions": 0, "exemplars": nbytes, "heads": 0, "router": 0, "network": 0}
    return {
        "stream": "digits",
        "strategy": strategy,
        "seed": seed,
        "memory_bytes": memory,
        "average_accuracy": accuracy,
        "accuracy_matrix": [[accuracy]],
    }


def test_area_is_accuracy_over_the_logarithm_of_the_budget() -> None:
    runs = [
        made_run("er-bytes", 100, 0.5),
        made_run("er-63x", 1000, 0.4),  # more memory never counts as less accuracy
        made_run("er-total", 10_000, 0.9),
        made_run("clts", 1000, 0.8),
        made_run("joint", 10, 1.0),
    ]
    found = areas(runs)
    assert found == {"er": pytest.approx(0.5), "clts": pytest.approx(0.4)}
    assert areas([made_run("clts", 1000, 0.8)]) == {}


def test_runs_of_several_folders_are_shown_together() -> None:
    def document(*runs: dict, torch: str = "2.15") -> dict:
        shared = {"arguments": {"stream": "digits"}, "command": "clts compare"}
        versions = {"torch": torch, "numpy": "2"}
        return {"runs": list(runs), "accuracy_memory_area": areas(runs), "versions": versions} | shared

    both = merged([document(made_run("clts", 1, 0.5)), document(made_run("naive", 1, 0.1), torch="2.11")], ["a", "b"])
    assert [run["strategy"] for run in both["runs"]] == ["clts", "naive"]
    assert both["versions"] == {"torch": "2.15, 2.11", "numpy": "2"}
    assert "accuracy_memory_area" not in both, "it is that of one comparison's strategies"
    with pytest.raises(ValueError, match="a and b both hold clts on digits with seed 0, with different outcomes"):
        merged([document(made_run("clts", 1, 0.5)), document(made_run("clts", 1, 0.6))], ["a", "b"])


def test_runs_that_are_not_alike_are_not_brought_together() -> None:
    def document(strategy: str, pair: str = "x", stream: str = "digits", **settings: object) -> dict:
        return {
            "runs": [made_run(strategy, 1, 0.5)],
            "arguments": {"stream": stream},
            "settings": {"train_epochs": 5, "routing": "soft", "tuned": {}} | settings,
            "pair": {"identity": [pair]},
            "versions": {},
        }

    alike = [document("clts"), document("naive", pair="y", routing="hard", tuned={"ewc": {"ewc_lambda": 1}})]
    assert len(merged(alike, ["a", "b"])["runs"]) == 2, "naive has no use for the pair"
    assert merged([document("clts"), document("naive", stream="shapes", train_epochs=1)], ["a", "b"])
    with pytest.raises(ValueError, match="a and b hold runs of digits that differ in train_epochs; bring together"):
        merged([document("clts"), document("naive", train_epochs=1)], ["a", "b"])
    with pytest.raises(ValueError, match="differ in routing, pair"):
        merged([document("clts"), document("er-bytes", pair="y", routing="hard")], ["a", "b"])
    with pytest.raises(ValueError, match=r"a, b are not measured on the same kind of images \(validation is 0.0, 0.2"):
        merged([document("clts"), document("clts", stream="shapes", validation=0.2)], ["a", "b"])


def test_pairs_dates_and_machines_of_several_streams_are_all_told() -> None:
    def document(stream: str, pair: str, machine: str) -> dict:
        told = {"name": pair, "identity": [pair], "bytes": 1000}
        runs = [made_run("clts", 1, 0.5) | {"stream": stream}]
        return {"runs": runs, "arguments": {"stream": stream}, "pair": told, "versions": {}, "machine": machine}

    both = merged([document("digits", "small", "one"), document("shapes", "large", "two")], ["a", "b"])
    assert both["machine"] == "one, two"
    assert both["pair"] == {"name": "small for digits, large for shapes", "bytes": 2000, "several": True}
    same = merged([document("digits", "small", "one"), document("shapes", "small", "one")], ["a", "b"])
    assert (same["machine"], same["pair"]["name"]) == ("one", "small")


def test_classes_without_images_are_not_drawn() -> None:
    variants = [{"label": "real", "runs": [{"class_accuracy": [0.25, None, 0.75]}]}]
    svg = class_accuracy(variants, ["cat", "nothing", "dog"])
    assert "<!-- cat -->" in svg
    assert "<!-- dog -->" in svg
    assert "<!-- nothing -->" not in svg


def test_settings_that_no_pair_has_are_refused(tiny_pair_folder: Path, tmp_path: Path) -> None:
    asked = replace(QUICK, generator={"colour": "red"}, strategies=("clts",), seeds=1, pair=str(tiny_pair_folder))
    for run in (compare, ablate):
        with pytest.raises(ValueError, match="arguments of DiffusionGenerator are: name_or_path"):
            run(asked, out=tmp_path)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_frozen_captioner_serves_every_strategy_and_weighs_nothing(tiny_pair_folder: Path, tmp_path: Path) -> None:
    asked = replace(QUICK, strategies=("clts", "naive"), seeds=1, pair=str(tiny_pair_folder))
    clts, naive = compare(replace(asked, backbone="captioner"), out=tmp_path)
    linear = (16 * 10 + 10) * 4  # the tiny captioner's 16 features to 10 classes, float32
    assert clts["memory_bytes"]["heads"] == 5 * linear
    assert clts["memory_bytes"]["router"] == linear
    assert naive["memory_bytes"]["network"] == linear
    with pytest.raises(ValueError, match="network is 'resnet'; known networks: small-cnn, cnn, slim-resnet18"):
        replace(asked, network="resnet")


def test_features_of_an_image_are_those_of_its_tensor(tiny_pair: Pair) -> None:
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8))  # the model's size
    features = torch.from_numpy(tiny_pair.captioner.features([image, image]))
    encoded = tiny_pair.captioner.encode(to_tensor(image)[None])
    assert torch.allclose(features, encoded.expand(2, -1), atol=1e-4)
