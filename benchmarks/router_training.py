"""What a falling learning rate and smoothed targets do for the router, on the seed of the search.

    python benchmarks/router_training.py

Captions and regenerates 1,000 images of Split Digits once, then trains six routers for each setting on them.
"""

from __future__ import annotations

from statistics import mean, stdev

import torch
from avalanche.training.determinism.rng_manager import RNGManager
from torch import Tensor, nn

from avalanche_clts import CaptionBuffer, load_pair, split_digits
from avalanche_clts.networks import small_cnn

SEED = 1000
SETTINGS = [(20, False, 0.0), (20, True, 0.0), (10, True, 0.0), (20, True, 0.1)]  # epochs, falling rate, smoothing


def main() -> None:
    RNGManager.set_random_seeds(SEED)
    benchmark = split_digits(5, seed=SEED)
    buffer = CaptionBuffer(pair=load_pair("embedded"), captions_per_class=20, replay_size=1000)
    for experience in benchmark.train_stream:
        buffer.post_adapt(None, experience)
    train = torch.stack([sample[0] for sample in buffer.buffer])
    tasks = torch.tensor([prompt.caption.experience for prompt in buffer.prompts])
    test = [(x, e.current_experience) for e in benchmark.test_stream for x, *_ in e.dataset]
    test_x, test_tasks = torch.stack([x for x, _ in test]), torch.tensor([t for _, t in test])
    for epochs, falling, smoothing in SETTINGS:
        scores = [
            (train_router(train, tasks, epochs, falling, smoothing, seed)(test_x).argmax(1) == test_tasks)
            .float()
            .mean()
            .item()
            for seed in range(6)
        ]
        print(f"epochs {epochs}, falling {falling}, smoothing {smoothing}: {mean(scores):.4f} ± {stdev(scores):.4f}")


def train_router(x: Tensor, tasks: Tensor, epochs: int, falling: bool, smoothing: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    router = small_cnn(5, channels=1, size=(8, 8))
    optimizer = torch.optim.Adam(router.parameters(), lr=3e-3)
    steps = epochs * -(-len(x) // 32)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0 if falling else 1.0, total_iters=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(32):
            loss = nn.functional.cross_entropy(router(x[batch]), tasks[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return router.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
