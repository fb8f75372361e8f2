"""State on disk: enough to go on, and nothing of the stream in it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import bwt_metrics, forgetting_metrics, forward_transfer_metrics
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import EWC, Naive
from torch import nn

from avalanche_clts import CaptionReplayPlugin, Pair, checkpoint, load_checkpoint, save_checkpoint, split_digits
from avalanche_clts._support.files import read_state, write_state
from avalanche_clts.streams.embedded_digits import stream_digits
from tests.conftest import make_clts, small_net


def digits():
    return split_digits(5, fixed_class_order=range(10))


def replaying(pair: Pair) -> Naive:
    network = small_net()
    return Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        plugins=[CaptionReplayPlugin(pair=pair, mem_size=10)],
        evaluator=EvaluationPlugin(),
    )


@pytest.mark.parametrize("build", [make_clts, replaying])
def test_a_resumed_run_ends_like_one_without_interruption(tiny_pair: Pair, tmp_path: Path, build) -> None:
    stream = digits().train_stream
    RNGManager.set_random_seeds(1)
    whole = build(tiny_pair)
    for experience in stream[:2]:
        whole.train(experience)
    save_checkpoint(whole, tmp_path)
    for experience in stream[2:4]:
        whole.train(experience)

    RNGManager.set_random_seeds(99)
    resumed = build(tiny_pair)
    start = load_checkpoint(resumed, tmp_path)
    assert start == 2
    for experience in stream[start:4]:
        resumed.train(experience)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.clock.train_iterations == whole.clock.train_iterations


def test_no_file_holds_a_pixel_of_the_stream_or_a_weight_of_the_pair(tiny_pair: Pair, tmp_path: Path) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
    save_checkpoint(clts, tmp_path)
    place = tmp_path / "checkpoint-0003"
    assert list(tmp_path.iterdir()) == [place]
    files = sorted(place.iterdir())
    assert [file.name for file in files] == ["captions.jsonl.gz", "checksums.json", "state.safetensors"]
    tensors = _tensors(read_state(place / "state.safetensors"))
    content = b"".join(file.read_bytes() for file in files)
    model_shapes = {tuple(t.shape) for t in clts.model.state_dict().values()}
    for image in stream_digits()[0].images:
        pixels = np.asarray(image)
        for form in (pixels, pixels.astype(np.float32) / 255, pixels.astype(np.float32)):
            assert form.tobytes() not in content
            assert form.astype(np.float16).tobytes() not in content
    # Every tensor is a weight of the model, a moment of one, a counter, or a random generator's state.
    for name, tensor in tensors.items():
        assert tuple(tensor.shape) in model_shapes or name.startswith(("random", "clock")) or tensor.numel() == 1
    unet = (Path(tiny_pair.generator.name_or_path) / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert len(content) < unet + sum(t.numel() * 8 for t in tensors.values())
    assert [name.split(" sha256:")[0] for name in read_state(place / "state.safetensors")["pair"]] == [
        "captioner",
        "generator",
    ]


def test_checkpoint_of_another_pair_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    from avalanche_clts import LabelCaptioner

    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    other = make_clts(Pair(LabelCaptioner(), tiny_pair.generator))
    with pytest.raises(ValueError, match=r"written with the pair.*use the same pair"):
        load_checkpoint(other, tmp_path)


def test_damaged_newer_and_missing_checkpoints_are_refused(tiny_pair: Pair, tmp_path: Path, monkeypatch) -> None:
    clts = make_clts(tiny_pair)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load_checkpoint(clts, tmp_path)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    monkeypatch.setattr(checkpoint, "_VERSION", 0)
    with pytest.raises(ValueError, match="newer version"):
        load_checkpoint(make_clts(tiny_pair), tmp_path)
    monkeypatch.undo()
    file = tmp_path / "checkpoint-0001" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="looking for an earlier one"), pytest.raises(ValueError, match="damaged"):
        load_checkpoint(make_clts(tiny_pair), tmp_path)


@pytest.mark.parametrize("file", ["state.safetensors", "captions.jsonl.gz", "checksums.json"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"", None]
)
def test_of_a_damaged_checkpoint_the_one_before_it_is_taken(tiny_pair: Pair, tmp_path: Path, file, damage) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
        save_checkpoint(clts, tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["checkpoint-0002", "checkpoint-0003"]
    hurt = tmp_path / "checkpoint-0003" / file
    if damage is None:
        hurt.unlink()
    else:
        hurt.write_bytes(damage(hurt.read_bytes()))
    resumed = make_clts(tiny_pair)
    with pytest.warns(UserWarning, match="checkpoint-0003 is damaged"):
        assert load_checkpoint(resumed, tmp_path) == 2
    resumed.train(digits().train_stream[2])
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), clts.model.parameters(), strict=True))


def test_a_longer_run_in_the_folder_is_not_written_over(tiny_pair: Pair, tmp_path: Path) -> None:
    longer = make_clts(tiny_pair)
    for experience in digits().train_stream[:2]:
        longer.train(experience)
        save_checkpoint(longer, tmp_path)
    other = make_clts(tiny_pair)
    other.train(digits().train_stream[0])
    with pytest.raises(ValueError, match="holds checkpoint-0002, and strategy has learnt 1 experiences"):
        save_checkpoint(other, tmp_path)
    assert load_checkpoint(make_clts(tiny_pair), tmp_path) == 2


def test_faults_counted_before_an_interruption_are_counted_after_it(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clts = make_clts(tiny_pair, keep="recognised")
    clts.train(digits().train_stream[0])
    clts.plugins[0].num_discarded = 5
    monkeypatch.setattr(tiny_pair.generator, "num_cut_prompts", 7)  # the pair is shared by all tests
    save_checkpoint(clts, tmp_path)
    tiny_pair.generator.num_cut_prompts = 0
    resumed = make_clts(tiny_pair, keep="recognised")
    load_checkpoint(resumed, tmp_path)
    assert (resumed.plugins[0].num_discarded, tiny_pair.generator.num_cut_prompts) == (5, 7)


def test_a_save_that_is_interrupted_leaves_the_one_before(tiny_pair: Pair, tmp_path: Path, monkeypatch) -> None:
    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    clts.train(digits().train_stream[1])
    monkeypatch.setattr(checkpoint, "write_state", lambda *rest: (_ for _ in ()).throw(OSError(28, "disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        save_checkpoint(clts, tmp_path)
    assert load_checkpoint(make_clts(tiny_pair), tmp_path) == 1


def test_metrics_that_compare_with_the_past_are_right_after_a_resume(embedded_pair: Pair, tmp_path: Path) -> None:
    def build():
        metrics = (
            forgetting_metrics(experience=True, stream=True),
            bwt_metrics(experience=True, stream=True),
            forward_transfer_metrics(experience=True, stream=True),
        )
        return make_clts(embedded_pair, train_epochs=3, eval_every=0, evaluator=EvaluationPlugin(*metrics))

    benchmark = digits()
    RNGManager.set_random_seeds(0)
    whole = build()
    for experience in benchmark.train_stream[:4]:
        if experience.current_experience == 2:
            save_checkpoint(whole, tmp_path)
        whole.train(experience, eval_streams=[benchmark.test_stream])
        expected = whole.eval(benchmark.test_stream)
    resumed = build()
    for experience in benchmark.train_stream[load_checkpoint(resumed, tmp_path) : 4]:
        resumed.train(experience, eval_streams=[benchmark.test_stream])
        found = resumed.eval(benchmark.test_stream)
    assert any(value != 0 for value in expected.values())
    assert {name: value for name, value in found.items() if value != expected[name]} == {}


def test_strategy_without_captions_has_no_checkpoint(tmp_path: Path) -> None:
    network = small_net()
    naive = Naive(model=network, optimizer=torch.optim.Adam(network.parameters()), criterion=nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="keeps no captions"):
        save_checkpoint(naive, tmp_path)


def test_state_that_would_be_lost_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    network = small_net()
    ewc = EWC(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        ewc_lambda=1.0,
        plugins=[CaptionReplayPlugin(pair=tiny_pair, mem_size=10)],
    )
    with pytest.raises(ValueError, match=r"strategy has EWCPlugin, whose state"):
        save_checkpoint(ewc, tmp_path)


def test_nested_state_survives_the_disk(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {"a": [1, 2.5, None, True, "x"], 3: {"t": shared, "view": shared[2:4]}, "empty": {}}
    write_state(tmp_path / "s.safetensors", copy.deepcopy(state))
    again = read_state(tmp_path / "s.safetensors")
    assert again["a"] == state["a"]
    assert torch.equal(again[3]["view"], shared[2:4])
    with pytest.raises(TypeError, match="cannot be written without pickle"):
        write_state(tmp_path / "s.safetensors", {"f": print})


def _tensors(node, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return {prefix: node}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return {k: t for key, value in items for k, t in _tensors(value, f"{prefix}.{key}".strip(".")).items()}
