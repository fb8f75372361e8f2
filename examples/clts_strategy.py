"""CLTS on Split Digits, of 8x8 pixels: ten classes in five experiences, no task label at test, no image kept."""

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_clts import CLTS, RoutedModel, clts_metrics, load_pair, split_digits


def network(outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, outputs)
    )


torch.manual_seed(0)
benchmark = split_digits(n_experiences=5, seed=0)
model = RoutedModel(head=network(), router=network(64))
strategy = CLTS(
    model=model,
    optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    criterion=nn.CrossEntropyLoss(),
    pair=load_pair("embedded"),
    captions_per_class=20,
    train_mb_size=32,
    train_epochs=10,
    eval_mb_size=128,
    evaluator=EvaluationPlugin(
        accuracy_metrics(stream=True), clts_metrics(samples=False), loggers=[InteractiveLogger()]
    ),
)
for experience in benchmark.train_stream:
    strategy.train(experience)
    strategy.eval(benchmark.test_stream)

print("\nEverything that is kept of the past:")
for caption in strategy.plugins[0].storage_policy.memory.captions[::20]:
    print(f"  class {caption.target}: {caption.text}")
