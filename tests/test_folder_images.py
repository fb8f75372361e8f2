"""Files of images: opened once, before anything is trained; damage told in one line; shown as a viewer shows them."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avalanche_clts import split_folder
from avalanche_clts.images import files
from avalanche_clts.images.avalanche import class_names
from avalanche_clts.images.files import as_seen, open_image
from avalanche_clts.images.folders import folder_digest
from avalanche_clts.pair.bulk import caption_files, image_files
from avalanche_clts.pair.prompts import words_of
from avalanche_clts.pretraining import photos_domain
from avalanche_clts.streams import folders
from avalanche_clts.streams.folders import FolderDataset, open_folder
from avalanche_clts.streams.named import parse_stream
from tests.image_folders import RED, fill, image_at, link, picture, png, split, wordnet

# Opening


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The files that are opened, as they are."""
    paths: list[str] = []

    def counted(path):
        paths.append(str(path))
        return original(path)

    original = files._open
    monkeypatch.setattr(files, "_open", counted)
    return paths


def test_every_file_is_opened_once_and_before_training(tmp_path: Path, opened: list[str], monkeypatch) -> None:
    split("train", "test")(tmp_path)
    everything = sorted(map(str, tmp_path.rglob("*.png")))
    benchmark = split_folder(tmp_path, 2, size=4)
    assert sorted(opened) == everything
    for stream in (benchmark.train_stream, benchmark.test_stream):
        for experience in stream:
            assert len([x for x, *_ in experience.dataset]) == len(experience.dataset)
    assert sorted(opened) == everything, "kept in memory"
    again = split_folder(tmp_path, 1, size=4, seed=3)
    assert sorted(opened) == everything, "and shared with the next benchmark"
    (tmp_path / "train" / "cat" / "0.png").write_bytes(png(picture(77, size=(9, 9))))
    split_folder(tmp_path, 2, size=4)
    assert sorted(opened) == sorted(2 * everything), "but not when a file has changed"
    del again


def test_images_past_the_memory_are_opened_when_they_are_asked_for(
    tmp_path: Path, opened: list[str], monkeypatch
) -> None:
    fill(tmp_path)
    monkeypatch.setattr(folders, "MEMORY", 10 * 4 * 8 * 8 - 1)
    train, _ = open_folder(tmp_path)
    kept = [image.tobytes() for image, _ in train]
    assert len(opened) == 10 + len(train)
    monkeypatch.undo()
    assert [image.tobytes() for image, _ in open_folder(tmp_path)[0]] == kept


def test_a_pair_learns_from_a_folder_that_is_opened_once(tmp_path: Path, opened: list[str]) -> None:
    fill(tmp_path, count=8)
    domain = photos_domain(tmp_path, size=8, part=(1, 2))
    others, test = domain.held_out()
    pool = domain.pool()
    assert (len(pool.images), len(others.images), len(test.images)) == (2 * 6, 6, 4)
    assert len(opened) == 16


def test_all_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    fill(tmp_path / "train", count=20)
    fill(tmp_path / "test", count=2)
    for k in range(12):
        (tmp_path / "train" / "cat" / f"{k}.png").write_bytes(png()[:60])
    (tmp_path / "test" / "dog" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"13 of 44 files are not images .* and 3 more; remove or replace") as caught:
        split_folder(tmp_path, 2)
    assert str(caught.value).count(".png") == 10
    with pytest.warns(UserWarning, match="13 of 44 files .* and 3 more; 13 left out"):
        benchmark = split_folder(tmp_path, 2, skip_damaged=True)
    assert sum(len(experience.dataset) for experience in benchmark.train_stream) == 28
    with pytest.warns(UserWarning, match="13 of 44"):
        assert parse_stream(f"folder:{tmp_path},experiences=2,size=9,skip_damaged=1").build(0)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_whatever_is_wrong_with_a_file_the_error_names_it(format: str, tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    buffer = io.BytesIO()
    picture(size=(24, 24)).save(buffer, format)
    file = tmp_path / "fuzzed"
    refusals = []
    for turn in range(150):
        data = bytearray(buffer.getvalue())
        for _ in range(random.randint(1, 6)):
            data[random.randint(len(data) if turn % 3 else min(120, len(data)))] = random.randint(256)
        file.write_bytes(bytes(data[: random.randint(1, len(data))] if turn % 3 == 1 else data))
        try:
            open_image(file)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all(str(file) in refusal and len(refusal.splitlines()) == 1 for refusal in refusals)


def test_a_list_of_words_is_found_beside_or_above_the_class_folders(tmp_path: Path) -> None:
    wordnet(tmp_path / "photo")
    assert {Path(part.dataset.root) for part in open_folder(tmp_path / "photo")} == {tmp_path / "photo"}
    (tmp_path / "photo" / "words.txt").rename(tmp_path / "words.txt")
    assert {Path(part.dataset.root) for part in open_folder(tmp_path / "photo")} == {tmp_path}
    stream = split_folder(tmp_path / "photo", 1).train_stream
    assert class_names(stream[0].dataset, words_of)[0] == "goldfish"
    (tmp_path / "words.txt").unlink()
    assert {Path(part.dataset.root) for part in open_folder(tmp_path / "photo")} == {tmp_path / "photo" / "train"}


# As a viewer shows them


def transparent(mode: str) -> Image.Image:
    """Left half opaque, right half transparent."""
    image = Image.new("RGBA", (8, 8), (*RED, 255))
    image.paste((*RED, 0), (4, 0, 8, 8))
    return image.convert(mode)


def keyed(mode: str, colour: object) -> bytes:
    """A file with one colour that stands for transparency, in the right half."""
    image = Image.new(mode, (8, 8), 9 if mode == "L" else RED)
    image.paste(colour, (4, 0, 8, 8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=colour)
    return buffer.getvalue()


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def halves(left: int, right: int, dtype: type = np.uint16) -> Image.Image:
    return Image.fromarray(np.array([[left] * 4 + [right] * 4] * 8, dtype))


def tiff_of_12_bits(left: int, right: int) -> bytes:
    """A TIFF of `halves` that packs two pixels into three bytes, which Pillow reads and does not write."""
    rows = (np.asarray(halves(left, right)).reshape(-1, 2) @ [1 << 12, 1]).tolist()
    return tiff(b"".join(row.to_bytes(3, "big") for row in rows), {258: 12})


def tiff(strip: bytes, tags: dict[int, int]) -> bytes:
    """Of 8x8 pixels, by tags that Pillow does not write."""
    # Width, height, bits of a pixel, no compression, black is zero, where the strip begins, channels, rows, its length.
    tags = {256: 8, 257: 8, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(strip)} | tags
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


WHITE = (255, 255, 255)
RAMP = Image.fromarray(np.linspace(0, 2**16 - 1, 64).astype(np.uint16).reshape(8, 8))
GREYS = Image.new("P", (8, 8), 1)
GREYS.putpalette([255, 0, 0, 70, 70, 70])
SEEN = {
    "RGBA": (saved(transparent("RGBA"), "PNG"), RED, WHITE),
    "LA": (saved(transparent("LA"), "PNG"), 80, 255),
    "palette with transparency": (saved(transparent("RGBA").quantize(4), "PNG"), RED, WHITE),
    "RGB with a transparent colour": (keyed("RGB", (1, 2, 3)), RED, WHITE),
    "grey with a transparent shade": (keyed("L", 200), 9, 255),
    "CMYK": (saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), (255, 0, 0), (255, 0, 0)),
    "YCbCr": (saved(Image.new("RGB", (8, 8), RED).convert("YCbCr"), "TIFF", compression="jpeg"), RED, RED),
    "1 bit": (saved(Image.new("1", (8, 8), 1), "PNG"), 255, 255),
    "16 bits": (saved(RAMP, "PNG"), 0, 28),
    "16 bits in a TIFF": (saved(RAMP, "TIFF"), 0, 28),
    "8 bits in 16": (saved(halves(40, 250), "PNG"), 40, 250),
    "8 bits in 16 in a TIFF": (saved(halves(40, 250), "TIFF"), 40, 250),
    "8 bits in 32": (saved(halves(40, 250, np.int32), "TIFF"), 40, 250),
    "12 bits, declared": (tiff_of_12_bits(320, 4000), 20, 250),
    "16 bits, white is zero": (tiff(np.asarray(halves(9 << 8, 200 << 8)).tobytes(), {262: 0}), 246, 55),
    "12 bits in 16": (saved(halves(256, 4095), "PNG"), 1, 15),
    "16 bits with a transparent shade": (saved(halves(9 << 8, 1000), "PNG", transparency=1000), 9, 255),
    "8 bits in 16 with a transparent shade": (saved(halves(9, 65535), "PNG", transparency=65535), 9, 255),
    "a palette of colours": (saved(Image.new("RGB", (8, 8), RED).quantize(4), "PNG"), RED, RED),
    "a palette of greys": (saved(GREYS, "PNG"), 70, 70),
    "animated": (saved(Image.new("RGB", (8, 8), RED), "PNG", save_all=True, append_images=[picture()]), RED, RED),
}


@pytest.mark.parametrize("name", SEEN)
def test_images_come_out_as_a_viewer_shows_them(name: str, tmp_path: Path) -> None:
    content, left, right = SEEN[name]
    (tmp_path / "file").write_bytes(content)
    image = open_image(tmp_path / "file")
    assert image.mode == ("L" if isinstance(left, int) else "RGB")
    for x, wanted in ((0, left), (7, right)):
        assert np.allclose(image.getpixel((x, 0)), wanted, atol=3), image.getpixel((x, 0))
    assert as_seen(image).tobytes() == image.tobytes(), "seen once is seen"


def test_colours_that_pillow_reads_wrongly_are_refused(tmp_path: Path) -> None:
    """16 bits in planes, without compression: it takes the lower bytes."""
    planes = np.full((3, 8, 8), 60_000, np.uint16).tobytes()
    entries = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 3, 0), 259: (4, 1, 1), 262: (4, 1, 2), 273: (4, 3, 0)}
    entries |= {277: (4, 1, 3), 278: (4, 1, 8), 279: (4, 3, 0), 284: (4, 1, 2)}
    at = 8 + len(planes) + 2 + 12 * len(entries) + 4  # of what fits in no entry
    beyond = struct.pack("<3H", 16, 16, 16) + struct.pack("<3I", 8, 136, 264) + struct.pack("<3I", 128, 128, 128)
    places = {258: at, 273: at + 6, 279: at + 18}
    packed = b"".join(
        struct.pack("<HHII", tag, kind, count, places.get(tag, value)) for tag, (kind, count, value) in entries.items()
    )
    head = struct.pack("<2sHI", b"II", 42, 8 + len(planes)) + planes
    (tmp_path / "planes.tif").write_bytes(head + struct.pack("<H", len(entries)) + packed + bytes(4) + beyond)
    with pytest.raises(ValueError, match=r"planes\.tif is not an image .*16-bit colours in planes.*; convert it first"):
        open_image(tmp_path / "planes.tif")


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    for name in ("cat", "dog"):
        fill(tmp_path, name, count=3, size=(12, 8))
        lying = Image.new("RGB", (8, 12), "black")
        lying.paste(RED, (0, 0, 4, 12))
        lying.save(tmp_path / name / "9.jpg", exif=exif.tobytes(), quality=95)
    dataset = FolderDataset(tmp_path)
    assert dataset.size == (12, 8)
    upright = dataset[3][0]
    assert upright.getpixel((6, 1))[0] > 150
    assert upright.getpixel((6, 6))[0] < 50


@pytest.mark.parametrize("coloured", ["train", "test"])
def test_one_coloured_image_makes_a_coloured_set(coloured: str, tmp_path: Path) -> None:
    fill(tmp_path / "train", mode="L")
    fill(tmp_path / "test", mode="L")
    assert {part.dataset.mode for part in open_folder(tmp_path)} == {"L"}
    picture(5).save(tmp_path / coloured / "dog" / "4.png")
    train, test = open_folder(tmp_path)
    assert {image.mode for part in (train, test) for image, _ in part} == {"RGB"}


# What else reads folders


def test_a_digest_is_of_the_images_alone(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos")
    before = folder_digest(root)
    link("cat/loop", ".")(root)
    link("up", "..")(root)
    image_at("cat/.ipynb_checkpoints/a.png", "__MACOSX/._a.png")(root)
    (root / "cat" / "notes.txt").write_text("of the cat")
    assert folder_digest(root) == before
    image_at("cat/9.png")(root)
    assert folder_digest(root) != before


def test_folders_to_caption_are_read_likewise(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos")
    image_at("cat/.ipynb_checkpoints/a.png")(root)
    link("cat/loop", ".")(root)
    link("cat/copy.png", "cat/0.png")(root)
    assert image_files([root, root / "cat"]) == sorted(root.glob("*/[0-9].png"))


def test_damaged_images_are_told_before_any_is_captioned(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos")
    for name in ("cat/4.png", "dog/1.png"):
        (root / name).write_bytes(png()[:60])

    class Captioner:
        def caption(self, images, class_names=None):
            raise AssertionError("before it is asked")

    with pytest.raises(ValueError, match=r"2 of 10 files are not images .*cat/4\.png .*dog/1\.png"):
        caption_files(image_files([root]), Captioner(), tmp_path / "captions.jsonl")
    assert not (tmp_path / "captions.jsonl").exists()


def test_captions_go_on_where_a_line_was_cut_within_a_letter(tmp_path: Path) -> None:
    """And in folders whose names are no UTF-8."""
    root = fill(tmp_path / "photos")
    latin = Path(os.fsdecode(os.fsencode(root / "cat") + b"/caf\xe9.png"))
    latin.write_bytes(png())
    out = tmp_path / "captions.jsonl"
    lines = [json.dumps({"file_name": f"photos/cat/{i}.png", "text": "thé"}, ensure_ascii=False) for i in range(2)]
    written = "\n".join(lines).encode()
    out.with_name(f"{out.name}.part-0").write_bytes(written[: written.rindex(b"\xa9")])

    class Captioner:
        def caption(self, images, class_names=None):
            return ["anew"] * len(images)

    files = image_files([root])
    for _ in range(2):
        caption_files(files, Captioner(), out)
        texts = [json.loads(line)["text"] for line in out.read_text(errors="surrogateescape").splitlines()]
        assert len(texts) == len(files)
        assert texts.count("thé") == 1


def test_class_ids_follow_names_however_their_accents_are_spelt(tmp_path: Path) -> None:
    """Spelt in two characters, as archives of a Mac have it, the first would come first, and else last."""
    apart, whole = "A\N{COMBINING DIAERESIS}pfel", "\N{LATIN CAPITAL LETTER A WITH DIAERESIS}pfel"
    fill(tmp_path / "train", apart, "Birnen")
    fill(tmp_path / "test", whole, "Birnen")
    train, test = open_folder(tmp_path)
    assert train.dataset.classes == test.dataset.classes
    benchmark = split_folder(tmp_path, 2)
    shown = [set(class_names(e.dataset).values()) for e in (benchmark.train_stream[0], benchmark.test_stream[0])]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("suffix", ["bmp", "tiff"])
def test_an_image_that_was_edited_in_place_is_another(suffix: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", suffix=suffix)
    before, file = folder_digest(root), root / "cat" / f"1.{suffix}"
    length = file.stat().st_size
    picture(99).save(file)
    assert file.stat().st_size == length
    assert folder_digest(root) != before


def test_captions_leave_what_else_is_said_of_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos")
    out = root / "metadata.jsonl"
    said = [
        {"file_name": "cat/0.png", "label": 3, "bbox": [1, 2]},
        {"file_name": "dog/1.png", "text": "mine", "label": 4},
        {"file_name": "gone.png", "label": 5},
    ]
    out.write_text("".join(json.dumps(record) + "\n" for record in said))

    class Captioner:
        def caption(self, images, class_names=None):
            return ["new"] * len(images)

    files = image_files([root])
    texts = caption_files(files, Captioner(), out, identity="one")
    assert texts.count("new") == len(files) - 1
    records = {record["file_name"]: record for record in map(json.loads, out.read_text().splitlines())}
    assert records["cat/0.png"] == said[0] | {"text": "new"}
    assert records["dog/1.png"] == said[1]
    assert records["gone.png"] == said[2]
    assert caption_files(files, Captioner(), out, identity="one") == texts
    with pytest.raises(ValueError, match=r"metadata.jsonl holds captions of another captioner.*choose another --out"):
        caption_files(files, Captioner(), out, identity="another")


def test_captions_name_links_as_the_folder_does(tmp_path: Path) -> None:
    """As a hub's cache lays images out: links to files that lie elsewhere under other names."""
    blobs = fill(tmp_path / "blobs")
    for side in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / side / name).mkdir(parents=True)
            for i in range(2):
                file = blobs / name / f"{i + 2 * (side == 'test')}.png"
                (tmp_path / "photos" / side / name / f"{i}.png").symlink_to(file)

    class Captioner:
        def caption(self, images, class_names=None):
            return ["a cat or a dog"] * len(images)

    out = tmp_path / "photos" / "metadata.jsonl"
    caption_files(image_files([tmp_path / "photos"]), Captioner(), out)
    named = [json.loads(line)["file_name"] for line in out.read_text().splitlines()]
    assert sorted(named) == sorted(
        f"{s}/{n}/{i}.png" for s in ("train", "test") for n in ("cat", "dog") for i in (0, 1)
    )
    domain = photos_domain(tmp_path / "photos")
    tested = {open_image(file).tobytes() for file in (tmp_path / "photos" / "test").glob("*/*.png")}
    _, (judged, _) = domain.held_out()
    learnt = {image.tobytes() for image in [*domain.pool().images, *judged]}
    assert len(learnt) == 4
    assert not learnt & tested
