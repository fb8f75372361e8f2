"""The audit finds real images wherever they hide, and does not cry wolf."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.functional import to_tensor
from torchvision.utils import make_grid

import avalanche_clts.experiments.audit as auditing
from avalanche_clts import cli
from avalanche_clts.experiments.audit import pixels
from avalanche_clts.experiments.audit.membership import area, buffer_scores, caption_scores
from avalanche_clts.experiments.audit.pixels import nearest, pixels_of
from avalanche_clts.experiments.audit.search import RealImages, search
from avalanche_clts.experiments.page.samples import data_url
from avalanche_clts.memory.captions import Caption
from avalanche_clts.streams.embedded_digits import stream_digits
from avalanche_clts.streams.embedded_shapes import stream_shapes

DIGITS = stream_digits()[0].images
SHAPES = stream_shapes()[0].images[:300]


@cache
def looked_for(stream: str) -> RealImages:
    return RealImages({"digits": DIGITS, "shapes": SHAPES}[stream], threshold=0.03)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def events(folder: Path, image: Image.Image) -> None:
    others = [to_tensor(Image.new(image.mode, image.size, "gray"))] * 8
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("grid", make_grid([*others, to_tensor(image)], nrow=3))


def database(folder: Path, image: Image.Image) -> None:
    with sqlite3.connect(folder / "images.sqlite") as connection:
        connection.execute("CREATE TABLE images (key TEXT, content BLOB)")
        connection.execute("INSERT INTO images VALUES (?, ?)", ("x", png(image)))
    connection.close()


def jpeg(folder: Path, image: Image.Image) -> None:
    big = image.convert("RGB").resize((8 * image.width, 8 * image.height), Image.Resampling.NEAREST)
    big.save(folder / "x.jpg", quality=95)


HIDING: dict[str, Callable[[Path, Image.Image], object]] = {
    "bytes": lambda f, i: (f / "x.bin").write_bytes(b"before" + i.tobytes() + b"after"),
    "zipped bytes": lambda f, i: (f / "x.gz").write_bytes(gzip.compress(b"before" + i.tobytes())),
    "tensor": lambda f, i: save_file({"w": torch.rand(9), "x": to_tensor(i)}, f / "x.safetensors"),
    "half precision": lambda f, i: save_file({"x": to_tensor(i).half()}, f / "x.safetensors"),
    "array": lambda f, i: np.save(f / "x.npy", np.asarray(i).astype(np.float32)),
    "png": lambda f, i: (f / "x.png").write_bytes(png(i)),
    "png in a file": lambda f, i: (f / "x.dat").write_bytes(b"\x89PNG" * 3 + png(i) + b"more"),
    "enlarged, compressed": jpeg,
    "page": lambda f, i: (f / "x.html").write_text(f'<img src="{data_url(i)}">'),
    "json": lambda f, i: (f / "x.json").write_text(json.dumps({"real": data_url(i)})),
    "event file": events,
    "database": database,
}


@pytest.mark.parametrize(("stream", "images"), [("digits", DIGITS), ("shapes", SHAPES)], ids=["digits", "shapes"])
@pytest.mark.parametrize("place", HIDING)
def test_a_real_image_is_found(tmp_path: Path, stream: str, images: list[Image.Image], place: str) -> None:
    (tmp_path / "deep").mkdir()
    HIDING[place](tmp_path / "deep", images[7])
    found = search(tmp_path, looked_for(stream))
    assert len(found) == 1
    (name,) = found
    assert name.startswith("deep/")


@pytest.mark.parametrize("place", HIDING)
def test_an_image_that_is_not_of_the_stream_is_not_found(tmp_path: Path, place: str) -> None:
    HIDING[place](tmp_path, stream_shapes()[0].images[300])
    assert search(tmp_path, looked_for("shapes")) == {}


def test_a_comparison_without_real_images_passes_and_one_with_them_does_not(
    tiny_pair_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--strategies", "clts", "er-bytes", "--seeds", "1", "--epochs", "1", "--pair", str(tiny_pair_folder)]
    options += ["--set", "clts.replay_size=100", "clts.router_epochs=2"]
    for name, more, status in (("plain", [], 1), ("private", ["--no-real-images"], 0)):
        folder = tmp_path / name
        assert cli.main(["compare", "--stream", "digits", *options, *more, "--out", str(folder)]) == 0
        capsys.readouterr()
        assert cli.main(["audit", str(folder)]) == status
        said = capsys.readouterr().out
        outcome = json.loads((folder / "audit.json").read_text())
        with_images = set(outcome["files_with_real_images"])
        assert with_images == (set() if status == 0 else {"report.html", "samples-digits.json"})
        assert ("--no-real-images leaves them out" in said) == (status == 1)
        assert outcome["membership"]["the same images in a replay buffer"] > 0.99
        assert set(outcome["membership"]) == {"captions", "router", "heads", "the same images in a replay buffer"}
        assert outcome["distances"]["regenerated images"]["median"] > outcome["distances"]["test images"]["median"]
    # Records once did not tell the router's network from the others'.
    document = json.loads((folder / "results.json").read_text())
    del document["settings"]["router"]
    (folder / "results.json").write_text(json.dumps(document))
    assert cli.main(["audit", str(folder)]) == 0
    assert "membership" in json.loads((folder / "audit.json").read_text())
    # The folder's clts of other settings is not audited in the place of the recorded one.
    document = json.loads((folder / "results.json").read_text())
    document["settings"]["captions_per_class"] += 1
    (folder / "results.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert cli.main(["audit", str(folder)]) == 0
    assert "no trained clts is kept in this folder" in capsys.readouterr().out


def test_the_nearest_is_found_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    some, others = pixels_of(SHAPES[:50]), pixels_of(SHAPES[50:150])
    expected = np.sqrt(np.square(some[:, None].astype(float) - others).mean(2)).min(1)
    among = np.sqrt(np.square(some[:, None].astype(float) - some).mean(2)) + 9 * np.eye(50)
    for at_once in (1, 700, 1 << 26):
        monkeypatch.setattr(pixels, "_AT_ONCE", at_once)
        np.testing.assert_allclose(nearest(some, others), expected, rtol=1e-12)
        np.testing.assert_allclose(nearest(some, some, skip_self=True), among.min(1), rtol=1e-12)


def test_what_no_attack_can_tell_is_left_out(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, images in (("train", SHAPES[:24]), ("test", SHAPES[24:48])):
        for number, image in enumerate(images):
            place = tmp_path / "photos" / part / f"kind {number % 4}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place)
    stream, out = f"folder:{tmp_path / 'photos'},experiences=2", tmp_path / "out"
    options = ["--strategies", "clts", "--seeds", "1", "--epochs", "1", "--pair", str(tiny_pair_folder)]
    assert cli.main(["compare", "--stream", stream, *options, "--no-real-images", "--out", str(out)]) == 0
    assert cli.main(["audit", str(out)]) == 0
    # All six images of each class were captioned: there are none to tell them from.
    assert set(json.loads((out / "audit.json").read_text())["membership"]) == {"heads"}
    undivided = auditing.build

    def build(*args: object, **kwargs: object) -> object:
        agent, benchmark = undivided(*args, **kwargs)
        return agent, SimpleNamespace(train_stream=benchmark.train_stream, test_stream=benchmark.test_stream[:1])

    monkeypatch.setattr(auditing, "build", build)
    capsys.readouterr()
    assert cli.main(["audit", str(out)]) == 0
    assert "not divided like the training stream" in capsys.readouterr().out


def test_an_attack_on_captions_knows_whose_caption_is_kept() -> None:
    kept = [Caption("a small red star on navy", 3, 0, 0, 0), Caption("a ring", 6, 0, 0, 0)]
    scores = caption_scores(["a small red star on navy", "a red star on navy", "a ring", "a ring"], [3, 3, 6, 3], kept)
    assert scores[0] == scores[2] == 1.0
    assert scores[3] < scores[1] < 1.0
    assert area(scores[:1], scores[1:2]) == 1.0


def test_an_attack_on_a_buffer_is_certain() -> None:
    members, others = DIGITS[:50], DIGITS[50:200]
    assert area(buffer_scores(members, members), buffer_scores(others, members)) == 1.0
