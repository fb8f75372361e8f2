"""Text in the place of a replay buffer: plain fine-tuning, without and with `CaptionReplayPlugin`."""

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_clts import CaptionReplayPlugin, load_pair, split_digits

benchmark = split_digits(n_experiences=5, seed=0)
pair = load_pair("embedded")

for name, plugins in (
    ("naive", []),
    ("naive + 200 captions", [CaptionReplayPlugin(pair=pair, mem_size=200, batch_size_mem=128)]),
):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 10)
    )
    strategy = Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=3e-3),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=10,
        eval_mb_size=128,
        plugins=plugins,
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
    metrics = strategy.eval(benchmark.test_stream)
    print(f"{name:22} {100 * metrics['Top1_Acc_Stream/eval_phase/test_stream/Task000']:.1f} % of all test digits right")
