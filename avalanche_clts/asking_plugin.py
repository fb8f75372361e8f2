"""The captioner asked at evaluation, beside what a strategy has learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn

from .asking import LikeliestClass
from .images.avalanche import classes_of, experiences_in_training, task_labels_in_batch, task_labels_of_experience
from .memory.origins import ClassNames
from .pair.loading import Pair
from .refusals import require_last_word, require_own_names


class AskCaptionerPlugin(SupervisedPlugin):
    """At evaluation, the captioner's word beside that of what was learnt, in any supervised strategy.

    Its p(class) is multiplied by the p(class) of the pair's captioner, which is asked for the prompts of the classes
    seen so far: a product of experts (Hinton, Neural Computation 2002).

    What the captioner knows of a class is kept whatever else is forgotten, and what a strategy has learnt of the
    stream's own images is what the captioner does not know. Nothing is trained, and nothing kept but class names; an
    image costs as many texts read as there are classes, once. Under a task label it is asked for the classes seen under
    that label.

    Each strategy needs one of its own, the last of the plugins that change what is said.

    ```python
    strategy = CLTS(
        model=model,
        optimizer=Adam(model.parameters()),
        pair=pair,
        plugins=[AskCaptionerPlugin(pair=pair)],
    )
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[:1])
    ```

    **Arguments:**

    - pair: whose captioner is asked. Raises `TypeError` for one that does not say how likely it finds a text.
    - class_names: of all classes, by class id. None: taken from the data sets where they have them.
    """

    def __init__(self, *, pair: Pair, class_names: ClassNames | None = None) -> None:
        super().__init__()
        self.asked_captioner = pair.captioner
        self._asked = LikeliestClass(pair.captioner, class_names)
        self._classes_of: dict[int, list[int]] = {}  # class ids seen under each task label

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Look at who else changes what is said."""
        require_last_word(self, strategy)

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Hear the class names of what is about to be learnt; what cannot be asked for is refused before training."""
        experiences = experiences_in_training(strategy)
        require_own_names(self._asked.names, experiences, strategy)
        for experience in experiences:
            self._asked.hear(experience)
            for label in task_labels_of_experience(experience):
                known = self._classes_of.get(label, [])
                self._classes_of[label] = sorted({*known, *classes_of(experience)})

    def after_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Whatever is measured is of both."""
        strategy.mb_output = self.both(strategy.mb_x, strategy.mb_output, task_labels_in_batch(strategy))

    def both(self, x: Tensor, output: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """log p(class) of both, `(n, num_classes)`: as many classes as the model tells apart, or were seen.

        **Arguments:**

        - x: what the stream yields, `(n, channels, height, width)`.
        - output: what the strategy's model says of it, logits or log p(class), `(n, num_classes)`.
        - task_labels: Avalanche's, `(n,)`: of the classes that were seen, those seen under the label are asked for.
            None: unknown.
        """
        seen = list(self._asked.names)
        if not seen:  # Avalanche also evaluates before anything is trained
            return output
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        limits = torch.finfo(output.dtype)
        # A network that grows has no output yet for some class, one that masks others has minus infinity for them.
        output = nn.functional.pad(output, (0, max(0, max(seen) + 1 - output.shape[1])), value=limits.min)
        possible = self._possible(seen, task_labels, len(x)).to(output.device)
        learnt, said = (
            scores.clamp_min(limits.min).masked_fill(~possible, -torch.inf).log_softmax(1)
            for scores in (output[:, seen], self._asked.scores(x).to(output))
        )
        least = math.log(limits.tiny)  # no class gets exactly 0, as in `RoutedModel`
        both = torch.full_like(output, least)
        both[:, seen] = (learnt + said).log_softmax(1).clamp_min(least)
        return both

    def _possible(self, seen: list[int], task_labels: Tensor | None, count: int) -> Tensor:
        """Which of the classes seen an input may be of, `(count, len(seen))`: any of them under a label not seen."""
        possible = torch.ones(count, len(seen), dtype=torch.bool)
        if task_labels is not None:
            labels = torch.as_tensor(task_labels).cpu().expand(count)
            for label, classes in self._classes_of.items():
                possible[labels == label] = torch.isin(torch.tensor(seen), torch.tensor(classes))
        return possible

    def kept_bytes(self) -> Mapping[str, int]:
        """The class names, as text."""
        return self._asked.kept_bytes()

    def state_dict(self) -> dict[str, Any]:
        """The class names, the task labels that classes were seen under, and how the stream normalises."""
        return self._asked.state_dict() | {"classes_of": {str(k): v for k, v in self._classes_of.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._asked.load_state_dict(state)
        self._classes_of = {int(label): list(classes) for label, classes in state["classes_of"].items()}
