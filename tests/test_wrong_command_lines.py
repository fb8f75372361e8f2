"""Wrong command lines: each is refused in one line that names the option as it was typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from avalanche_clts.cli import main

# The command, beside the beginning of what is said of it.
WRONG = {
    "compare --stream digit": "--stream is 'digit'; known streams: digits",
    "compare --stream digits:experience=5": "--stream is 'digits:experience=5'; digits has no option 'experience'",
    "compare --stream digits:experiences=3": "--stream is 'digits:experiences=3'; experiences is 3; 10 classes divide",
    "compare --stream digits:experiences=x": "--stream is 'digits:experiences=x'; 'x' is no value for the option",
    "compare --stream folder:none": "--stream is 'folder:none'; none is not a folder",
    "compare --stream folder:empty": "--stream is 'folder:empty'; empty must hold a subfolder for each class",
    "compare --stream folder:two,size=0": "--stream is 'folder:two,size=0'; '0' is no value for the option size",
    "compare --stream folder:two": "--stream is 'folder:two'; experiences is 5; 2 classes divide into 1, 2",
    "compare --stream folder:two,test=2": "--stream is 'folder:two,test=2'; '2' is no value for the option test",
    "compare --stream folder:two,part=3/2": "--stream is 'folder:two,part=3/2'; '3/2' is no value for the option part",
    "compare --stream folder:two,domains=c": "--stream is 'folder:two,domains=c'; domains is ['c']",
    "compare --stream folder:two,experiences=2,size=1": "--stream has images of 1x1 pixels and 3 channels, too small",
    "compare --stream core50:size=64": "--stream is 'core50:size=64'; '64' is no value for the option size",
    "compare --pair blip": "--pair is 'blip'; it must be embedded, embedded-mnist-blood, a folder, or CAPTIONER",
    "compare --pair empty": "--pair empty: the weights of empty/captioner are not in the local cache",
    "compare --seeds 0": "--seeds is 0; it must be a whole number of at least 1",
    "compare --seeds many": "error: argument --seeds: invalid int value: 'many'",
    "compare --jobs 0": "--jobs is 0; ",
    "compare --epochs 0": "--epochs is 0; ",
    "compare --batch-size -1": "--batch-size is -1; ",
    "compare --network vgg": "--network is 'vgg'; known networks: ",
    "compare --router vgg": "--router is 'vgg'; known networks: ",
    "compare --router cnn --backbone captioner": "--router is 'cnn', but with backbone 'captioner' ",
    "compare --device tpu": "--device is 'tpu', which this machine does not have",
    "compare --strategies er clts": "--strategies has er; known strategies: joint",
    "compare --set replay_size=5": "--set is given 'replay_size=5'; write STRATEGY.OPTION=VALUE",
    "compare --set clts.colour=5": "--set has clts.colour; the hyper-parameters of clts: ",
    "compare --set er.size=1": "--set has er; known strategies: ",
    "compare --set clts.replay_size=-5": "--set has clts.replay_size of -5; ",
    "compare --tune --set clts.replay_size=5": "--set has clts, which the search would overrule",
    "compare --config none.toml": "--config none.toml is not there",
    "compare --config text": "--config text is no TOML",
    "compare --config seeds.toml": "--config seeds.toml: seeds is 0; ",  # which was not typed
    "compare --out text": "cannot write to text (Not a directory); choose another folder with --out",
    "compare --image-cache text": "--image-cache is 'text', which cannot be written (Not a directory)",
    "compare --out caf\udce9": r"--out is 'caf\udce9', a name that is not UTF-8; choose another folder",
    "compare --wandb mine": "--wandb is 'mine', but wandb finds no key of an account; log in with: wandb login",
    "ablate --out text": "cannot write to text (Not a directory); choose another folder with --out",
    "ablate --image-cache text/below": "--image-cache is 'text/below', which cannot be written (Not a directory)",
    "ablate --only luck": "--only has luck; known ablations: router-data",
    "ablate --seeds 0": "--seeds is 0; ",
    "report none": "none holds no results.json",
    "audit none --device tpu": "none holds no results.json",
    "caption none.png": "none.png is not there",
    "caption one.png --pair blip": "--pair is 'blip'; ",
    "caption one.png --device tpu": "--device is 'tpu'; it must name a device",
    "caption one.png --out empty": "--out is 'empty', which is a folder; give a file",
    "caption one.png --out one.png": "--out is 'one.png', which is one of the images; give another file",
    "caption one.png --out notes": "--out is 'notes', which holds something else than captions; give another file",
    "check embedded one.png --out one.png": "--out is 'one.png', which is one of the images; give another file",
    "check embedded --out empty": "--out is 'empty', which is a folder; give a file",
    "generate cat --out own": "--out is 'own', which holds 0000.png of your own; give another folder",
    "compare --stream folder:two,size=4000000000": "--stream is 'folder:two,size=4000000000'; ",
    "compare --stream folder:two,experiences=2 --out two": "--out is 'two', inside the folder of images two, where it",
    "compare --stream folder:two,experiences=2 --out two/results": "--out is 'two/results', inside the folder of",
    "ablate --stream folder:two,experiences=2 --out two": "--out is 'two', inside the folder of images two, where it",
    "compare --config steps.toml": "steps.toml: generator.steps is 'x'; ",
    "compare --config pair.toml": "pair.toml: pair is 'nope'; it must be embedded",
    "compare --config empty.toml": "--config empty.toml: strategies is empty; name some, or leave it out for all",
    "ablate --config none-of-all.toml": "--config none-of-all.toml: ablations is empty; name some, or leave it out",
    "compare --config three.toml": "--config three.toml: generator is 3; it must be a table of names and values",
    "ablate --stream digits:experiences=5 --only experiences": "--stream digits:experiences=5: none of the",
    "compare --stream folder:two,experiences=2 --image-cache two/cache": "--image-cache is 'two/cache', inside the",
    "check embedded --out notes": "--out is 'notes', which holds something else than such a picture; give",
    "caption one.png --out settings.json": "--out is 'settings.json', which holds something else than captions; give",
    "report cut": "cut/results.json is damaged (",
    "report odd": "odd/results.json has no runs; ",
    "report runless": "runless/results.json holds what is no run; ",
    "pretrain --images small --part 2/2 --out new": "--part is 2/2, and small has too few images of b/ to train on",
    "pretrain --images numbers --out new": "--images numbers/metadata.jsonl, line 1: must be an object",
    "generate": "there is nothing to generate; give texts, or files of them with --captions",
    "generate cat --pair blip": "--pair is 'blip'; ",
    "generate cat --device tpu": "--device is 'tpu'; ",
    "generate cat --out text": "--out text: File exists",
    "generate --captions none": "--captions none: No such file or directory",
    "fetch blippp": "PAIR is 'blippp'; it must be embedded",
    "fetch blip --set generator=2": "--set is given 'generator=2'; write captioner.OPTION=VALUE",
    "check blip": "PAIR is 'blip'; it must be embedded",
    "check embedded none.png": "none.png is not there",
    "check embedded --device tpu": "--device is 'tpu'; ",
    "check embedded --set generator.steps=0": "--set generator.steps is 0; ",
    "check embedded --set generator.colour=1": "--set has 'colour'; arguments of DiffusionGenerator are: ",
    "check embedded --set generator.scheduler=Euler": "--set generator.scheduler is 'Euler'; ",
    "check embedded --set captioner.batch_size=x": "--set captioner.batch_size is 'x'; ",
    "pretrain --out text": "--out is 'text', which is a file; give a folder",
    "pretrain --out new --images none": "--images none is not a folder",
    "pretrain --out new --images empty": "--images empty must hold a subfolder for each class",
    "pretrain --out new --images two --size 0": "--size is 0; ",
    "pretrain --out working --images two": "--out is 'working', which holds work and no recipe.json: nothing of this",
    "pretrain --out laid --images two": "--out is 'laid', which holds captioner and no recipe.json: nothing of this",
    "pretrain --out two --images two": "--out is 'two', inside the folder of images two, where it would be taken for",
    "pretrain --out two/pair --images two": "--out is 'two/pair', inside the folder of images two, where it would be",
    "pretrain --out split/train/pair --images split": "--out is 'split/train/pair', inside the folder of images",
    "check embedded own --out one.png": "--out is 'one.png', which holds something else than such a picture; give",
    "check embedded own --out own/0000.png": "--out is 'own/0000.png', which holds something else than such a picture",
    "check embedded --out text/check.png": "--out is 'text/check.png', in what is a file, ",
    "check embedded --set generator.height=64px": "--set generator.height is '64px'; it must be a whole number",
    "check embedded --set generator.offload=disk": "--set generator.offload is 'disk'; it must name a device",
    "check embedded --set generator.compile=fast": "--set generator.compile is 'fast'; it must be True, False, or a",
    "check embedded --set generator.lora=[1]": "--set generator.lora is [1]; it must be a folder, or a repository",
    "check embedded --set generator.lora_weight_name=x": "--set generator.lora_weight_name is 'x', and there is no",
    "check embedded --set generator.steps=2000": "--set generator.steps is 2000, and the ",
    "pretrain --out new --images two --part 3/2": "--part is '3/2'; ",
    "pretrain --out new --size 8": "--size is for images of your own; give their folder with --images",
    "pretrain --out new --captioner-steps 0": "--captioner-steps is 0; ",
    "pretrain --out new --device tpu": "--device is 'tpu'; ",
    "compare -v -q": "error: argument -q/--quiet: not allowed with argument -v/--verbose",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-accounts"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no folder, no TOML")
    (tmp_path / "seeds.toml").write_text("seeds = 0")
    (tmp_path / "notes").write_text("my own notes")
    (tmp_path / "steps.toml").write_text('generator = {steps = "x"}')
    (tmp_path / "pair.toml").write_text('pair = "nope"')
    (tmp_path / "empty.toml").write_text("strategies = []")
    (tmp_path / "none-of-all.toml").write_text("ablations = []")
    (tmp_path / "three.toml").write_text("generator = 3")
    (tmp_path / "settings.json").write_text('{\n "a": {"b": 3}\n}')
    for name, content in (("cut", '{"runs": ['), ("odd", "[]"), ("runless", '{"runs": [{"strategy": "er-count"}]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(content)
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "metadata.jsonl").write_text('{"file_name": 3, "text": "three"}')
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    for path in ("working/work", "laid/captioner", "split/train/a", "split/test/a"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "own").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "own" / "0000.png")
    for number in range(10):  # of the second class there are two
        path = tmp_path / "small" / ("b" if number > 7 else "a")
        path.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path / f"{number}.png")
    for number in range(8):
        path = tmp_path / "two" / "ab"[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("line", WRONG)
def test_the_option_is_named_as_it_was_typed(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "--wandb" in line:
        pytest.importorskip("wandb")
    before = sorted(folder.rglob("*"))
    try:
        status = main(line.split())
    except SystemExit as exit:
        status = exit.code
    told = capsys.readouterr()
    assert status == 2
    assert told.out == ""
    said = [text for text in told.err.splitlines() if text.startswith("clts")]
    assert len(said) == 1
    assert said[0].split(": ", 1)[1].startswith(WRONG[line]), said[0]
    assert [path for path in sorted(folder.rglob("*")) if path not in before] == []


def test_remedies_are_options_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (9, 9)).save(folder / "two" / "a" / "8.png")
    (folder / "two" / "a" / "x\ny.png").write_bytes(b"")
    assert main(["pretrain", "--out", "new", "--images", "two"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert r"two/a/x\ny.png is not an image" in said
    assert "go on without (--skip-damaged)" in said
    assert "give the size to bring all to (--size 64)" in said
