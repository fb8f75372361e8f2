"""One head per experience, and the router that picks among them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from ._support.checks import require_kind, require_one_of
from ._support.extra_state import from_tensor, to_tensor
from .choices import Routing
from .heads import HeadRecord, grow
from .images.avalanche import classes_of, first_sample, part_of, task_labels_of_experience
from .routers import Router, RoutingTarget, TaskRouter

_Said = dict[int, tuple[Tensor, Tensor]]


class RoutedModel(MultiTaskModule):
    """Task Heads behind a Task Router (CLTS, arXiv 2409.17806).

    In training mode it is the newest head; in evaluation mode, p(class) = sum over heads of p(head) p(class | head).
    A head's distribution is over the classes that it was trained on. Task labels narrow the choice to the heads trained
    under that label: in a task-incremental stream one is left and the router is not asked; in a class-incremental
    stream, where all labels are equal, they change nothing.

    It can be evaluated at any moment. A head that the router has not seen yet, because it is being trained or is not to
    be told from others, has the prior probability 1 / number of heads; the router shares out the rest.

    ```python
    classifier = SimpleMLP(num_classes=10, input_size=64)
    model = RoutedModel(head=classifier, router=SimpleMLP(input_size=64), routing="hard")

    # Heads and router on a frozen backbone, better a pretrained one: an experience costs a linear layer.
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU())
    model = RoutedModel(head=nn.Linear(128, 10), router=nn.Identity(), backbone=backbone)
    ```

    **Arguments:**

    - head: a classifier over all classes, `(n, ...)` to `(n, num_classes)`; also one that grows (Avalanche's
        `IncrementalClassifier`), or that takes task labels (a `MultiTaskModule`). Each experience trains a copy of it
        from its present weights.
    - router: a network for the Task Router, as in `TaskRouter`, or a `Router`.
    - backbone: frozen network that heads and router share, so that an experience costs a head on its features. None:
        heads and router see the input.
    - routing: "soft", as above, or "hard", the paper's: the likeliest head alone decides.
    """

    def __init__(
        self, head: nn.Module, router: nn.Module, *, backbone: nn.Module | None = None, routing: Routing = "soft"
    ) -> None:
        super().__init__()
        self.set_routing(routing)
        for name, part in (("head", head), ("router", router), ("backbone", head if backbone is None else backbone)):
            require_kind(name, part, nn.Module, "a torch.nn.Module")
        _require_apart(head, router)
        self.backbone = backbone
        if backbone is not None:
            backbone.requires_grad_(False)
        self.router = router if isinstance(router, Router) else TaskRouter(router)
        for parameter in self.router.parameters():  # one by one, as lazy layers allow
            parameter.requires_grad = False
        # The first head is there from the start, so that an optimizer built on parameters() finds it. The template is
        # kept out of the module's reach (in a tuple): it is never trained, saved or moved.
        self.heads = nn.ModuleList([copy.deepcopy(head)])
        self._template = (head,)
        self.records: list[HeadRecord] = []
        self.asked_alone: int | None = None
        self.given_labels: Tensor | None = None  # where the caller of `forward` leaves them out,
        self.mistaken_labels: Tensor | None = None  # or gives these, which are something else
        self._num_classes = 0  # that evaluation has asked for
        self._answer: Answer | None = None

    def set_routing(self, routing: Routing) -> None:
        """Choose between "soft" and "hard" routing; takes effect at the next evaluation."""
        require_one_of("routing", routing, Routing)
        self.routing = routing

    @property
    def template(self) -> nn.Module:
        """What each new head is a copy of."""
        return self._template[0]

    @property
    def num_heads(self) -> int:
        """How many heads have been, or are being, trained."""
        return len(self.records)

    @property
    def routing_targets(self) -> list[RoutingTarget]:
        """Every class of every head."""
        return [RoutingTarget(t, target) for t, record in enumerate(self.records) for target in record.classes]

    @property
    def is_ambiguous(self) -> bool:
        """Whether some input may belong to more than one head, whatever its task label."""
        labels = [label for record in self.records for label in record.task_labels]
        return len(set(labels)) < len(labels)

    def adaptation(self, experience: Any) -> None:
        """In training mode: freeze the heads there are, and add one for `experience`; or, for a further part of an
        experience that an online stream has split, let the newest head know its classes too.

        Raises `ValueError`, before anything is added, if the head has too few outputs.
        """
        classes, labels, part = classes_of(experience), task_labels_of_experience(experience), part_of(experience)
        if not self.training:
            self._num_classes = max([self._num_classes, *(target + 1 for target in classes)])
            return
        if not self.records or not part.goes_on_with(self.records[-1].experience):
            index = len(self.records) if part.experience is None else part.experience
            record = HeadRecord(classes, labels, index)
            head = self.heads[-1] if not self.records else self._new_head()
            grow(head, record, experience)
            self._measure(head, record, experience)
            self.add_head(record, head)
        else:
            known = self.records[-1]
            record = replace(
                known,
                classes=tuple(sorted({*known.classes, *classes})),
                task_labels=tuple(sorted({*known.task_labels, *labels})),
            )
            grow(self.heads[-1], record, experience)
            self._measure(self.heads[-1], record, experience)
            self.records[-1] = record

    def add_head(self, record: HeadRecord, head: nn.Module | None = None) -> None:
        """Freeze the heads there are, bit for bit, and start a new one.

        **Arguments:**

        - head: the new one. None: a copy of the template.
        """
        for old in self.heads[: self.num_heads]:
            old.requires_grad_(False)
            for parameter in old.parameters():
                parameter.grad = None
        if self.num_heads == len(self.heads):
            self.heads.append(self._new_head() if head is None else head)
        elif head is not None:  # where one was discarded
            self.heads[-1] = head
        self.records.append(record)
        self.train(self.training)

    def discard_head(self) -> None:
        """Drop the newest head, as if its experience had not been trained on."""
        self.records.pop()
        self.heads[-1] = self._new_head()

    def train(self, mode: bool = True) -> RoutedModel:
        """Training mode is for the newest head alone: normalisation statistics of old heads must not move either."""
        super().train(False)
        self.training = mode
        self.heads[-1].train(mode)
        # What an interruption left is over.
        self._answer = self.asked_alone = self.given_labels = self.mistaken_labels = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or a file, holds no batch of images."""
        return {**vars(self), "_answer": None}

    def forward(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """The newest head's logits in training mode, log p(class) in evaluation mode; `(n, num_classes)`.

        **Arguments:**

        - x: the inputs, `(n, ...)`.
        - task_labels: Avalanche's task labels, `(n,)`. None: unknown.
        """
        if task_labels is None or task_labels is self.mistaken_labels:
            task_labels = self.given_labels
        if self.training or not self.records:  # Avalanche also evaluates before anything is trained
            logits = self._head(len(self.heads) - 1, self.features(x), task_labels)
            return logits if self.training else self._widened(logits, torch.finfo(logits.dtype).min)
        features = self.features(x)
        probabilities = chosen = self._route(features, task_labels)
        if self.routing == "hard":
            chosen = nn.functional.one_hot(probabilities.argmax(1), self.num_heads).to(probabilities.dtype)
        said: _Said = {}
        output = self.mixture(features, chosen, task_labels, said=said)
        self._answer = Answer(x, task_labels, features, probabilities, output, said)
        return output

    def answer(self, x: Tensor, task_labels: Tensor | None = None) -> Answer:
        """What router and heads said of the inputs when `forward` was last called, if it was with this very tensor;
        else it is called now."""
        if self._answer is None or self._answer.x is not x:
            self.forward(x, task_labels)
        assert self._answer is not None
        return self._answer

    def features(self, x: Tensor) -> Tensor:
        """What heads and router see: the frozen backbone's output, or the input itself."""
        if self.backbone is None:
            return x
        with torch.no_grad():
            features: Tensor = self.backbone(x)
        return features

    def route(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """p(head) for each input, `(n, num_heads)`."""
        return self._route(self.features(x), task_labels)

    def by_heads(self, answer: Answer, heads: Tensor) -> Tensor:
        """log p(class), `(n, num_classes)`, if some heads alone had been asked, each as likely as the others.

        **Arguments:**

        - heads: which ones, `(n, num_heads)`, true or false.
        """
        shares = heads.float() / heads.sum(1, keepdim=True).clamp_min(1)
        return self.mixture(answer.features, shares, answer.task_labels, said=answer.said)

    def mixture(
        self,
        features: Tensor,
        head_probabilities: Tensor,
        task_labels: Tensor | None = None,
        *,
        said: _Said | None = None,
    ) -> Tensor:
        """log of the sum over heads of p(head) p(class | head), `(n, num_classes)`.

        **Arguments:**

        - said: what heads have said of these features already, to which is added what they say now. None: nothing.
        """
        said = {} if said is None else said
        parts = []
        for t in range(self.num_heads):
            asked = head_probabilities[:, t] > 0
            if bool(asked.any()):
                said[t] = self._class_probabilities(t, features, asked, task_labels, said.get(t))
                probabilities = said[t][1]
                parts.append(probabilities * head_probabilities[:, t, None].to(probabilities))
        width = max(part.shape[1] for part in parts)  # growing heads differ in width
        total = torch.stack([nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]).sum(0)
        # No class gets exactly 0: the loss of a class that no head knows yet stays finite.
        return self._widened(total, 0.0).clamp_min(torch.finfo(total.dtype).tiny).log()

    def _class_probabilities(
        self,
        t: int,
        features: Tensor,
        asked: Tensor,
        task_labels: Tensor | None,
        said: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Which rows head t has been asked about, and p(class | head) in them, `(n, num_classes)`, else 0."""
        known, rows = said or (torch.zeros_like(asked), None)
        new = asked & ~known
        if rows is not None and not bool(new.any()):
            return known, rows
        logits = self._head(t, features[new], None if task_labels is None else task_labels[new])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision has no room for logs
        masked = torch.full_like(logits, -torch.inf)
        masked[:, self.records[t].classes] = logits[:, self.records[t].classes]
        rows = logits.new_zeros(len(features), logits.shape[1]) if rows is None else rows.clone()
        rows[new] = masked.softmax(1)
        return known | new, rows

    def takes_single_samples(self, experience: Any) -> bool:
        """Whether a new head can be trained on a batch of one, which some batch normalisation refuses."""
        head = copy.deepcopy(self.template).to(self._adaptation_device).train()
        if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in head.modules()):
            return True
        try:
            with torch.no_grad():
                features = self.features(first_sample(experience.dataset.eval()).to(self._adaptation_device))
                labels = torch.tensor(task_labels_of_experience(experience)[:1], device=features.device)
                head(features, labels) if isinstance(head, MultiTaskModule) else head(features)
        except ValueError:
            return False
        return True

    def get_extra_state(self) -> Tensor:
        """The heads' records, as a tensor, so that a fresh model can load a trained one's state."""
        return to_tensor([asdict(record) for record in self.records])

    def set_extra_state(self, state: Tensor) -> None:
        """Have as many heads as the state was saved with, each grown as it was."""
        records = [
            HeadRecord(tuple(r["classes"]), tuple(r["task_labels"]), r["experience"]) for r in from_tensor(state)
        ]
        if records == self.records:
            return
        if isinstance(self.router, TaskRouter):  # which may have no weights yet to say where it is
            self.router.be_like(next(self.heads.parameters(), torch.empty(0)))
        self.records, self.heads = [], nn.ModuleList([self._new_head()])
        for record in records:
            head = self.heads[0] if not self.records else self._new_head()
            grow(head, record)
            self.add_head(record, head)

    def _new_head(self) -> nn.Module:
        like = next(self.heads.parameters(), torch.empty(0))
        return copy.deepcopy(self.template).to(device=like.device, dtype=like.dtype)

    def _head(self, t: int, features: Tensor, task_labels: Tensor | None) -> Tensor:
        """Logits of head t; one that takes task labels gets those that it knows."""
        head = self.heads[t]
        if not isinstance(head, MultiTaskModule):
            logits: Tensor = head(features)
            return logits
        known = self.records[t].task_labels if t < self.num_heads else (0,)
        labels = torch.full((len(features),), known[0], device=features.device)
        if task_labels is not None:
            given = torch.as_tensor(task_labels, device=features.device).expand(len(features))
            labels = torch.where(_is_one_of(given, known), given, labels)
        logits = head(features, labels)
        return logits

    def _widened(self, rows: Tensor, fill: float) -> Tensor:
        """As wide as evaluation has asked for: classes to come have a column too."""
        return nn.functional.pad(rows, (0, max(0, self._num_classes - rows.shape[1])), value=fill)

    def _route(self, features: Tensor, task_labels: Tensor | None) -> Tensor:
        if not self.records:
            raise RuntimeError("the model has no trained head yet; train the strategy on an experience first")
        if self.asked_alone is not None:
            alone = torch.tensor(self.asked_alone, device=features.device).expand(len(features))
            return nn.functional.one_hot(alone, self.num_heads).float()
        possible = self._possible_heads(len(features), task_labels, features.device)
        if bool((possible.sum(1) == 1).all()):
            return possible.float()
        return self._head_logits(features).masked_fill(~possible, -torch.inf).softmax(1)

    def _head_logits(self, features: Tensor) -> Tensor:
        """log p(head), `(n, num_heads)`: the router's, and the prior of heads that it has not seen."""
        seen = self.router.num_heads
        logits = torch.zeros(len(features), self.num_heads, device=features.device)
        if seen > 0:
            logits[:, :seen] = self.router.log_probabilities(features).to(logits) + math.log(seen)
        return logits

    def _possible_heads(self, n: int, task_labels: Tensor | None, device: torch.device) -> Tensor:
        """Which heads the task labels allow, `(n, num_heads)`; all of them where no head knows the label."""
        if task_labels is None:
            return torch.ones(n, self.num_heads, dtype=torch.bool, device=device)
        labels = torch.as_tensor(task_labels, device=device).expand(n)
        columns = [_is_one_of(labels, record.task_labels) for record in self.records]
        possible = torch.stack(columns, dim=1)
        return possible | ~possible.any(1, keepdim=True)

    @torch.no_grad()
    def _measure(self, head: nn.Module, record: HeadRecord, experience: Any) -> None:
        """Run one sample through head and router: do they take it, and does the head know enough classes?"""
        features = self.features(first_sample(experience.dataset.eval()).to(self._adaptation_device))
        training = {module: module.training for module in head.modules()}
        head.eval()
        labels = torch.tensor(record.task_labels[:1], device=features.device)
        logits = head(features, labels) if isinstance(head, MultiTaskModule) else head(features)
        for module, mode in training.items():
            module.training = mode
        self.router.measure(features)
        if max(record.classes) >= logits.shape[1]:
            raise ValueError(
                f"head tells {logits.shape[1]} classes apart, but this experience holds class {max(record.classes)}; "
                f"build head with at least {max(record.classes) + 1} outputs"
            )


@dataclass(frozen=True)
class Answer:
    """What a model says of a batch, so that whoever measures it need not ask again.

    **Arguments:**

    - x, task_labels: the inputs.
    - features: what heads and router saw of them.
    - head_probabilities: p(head), `(n, num_heads)`.
    - log_probabilities: log p(class), `(n, num_classes)`.
    - said: of each head that was asked, about which inputs, and p(class | head) of those.
    """

    x: Tensor
    task_labels: Tensor | None
    features: Tensor
    head_probabilities: Tensor
    log_probabilities: Tensor
    said: _Said


def _require_apart(head: nn.Module, router: nn.Module) -> None:
    """Raise `ValueError` if they have weights in common: a head's learn while the router's are frozen, and the other
    way round."""
    if {id(p) for p in head.parameters()} & {id(p) for p in router.parameters()}:
        raise ValueError(
            "head and router share weights; give each its own (copy.deepcopy), or what both stand on as backbone=..."
        )


def _is_one_of(labels: Tensor, known: Iterable[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(known), device=labels.device))
