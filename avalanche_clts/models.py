"""One head per experience, and the router that picks among them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from avalanche.benchmarks import CLExperience
from avalanche.models import DynamicModule, MultiTaskModule
from torch import Tensor, nn

from ._support.checks import require_kind, require_one_of

Routing = Literal["soft", "hard"]
Evidence = Literal["router", "heads", "both"]


@dataclass(frozen=True)
class HeadRecord:
    """What a head was trained on.

    **Arguments:**

    - classes: the classes that it knows.
    - task_labels: the task labels of its training images.
    - experience: `current_experience` of its training experience.
    """

    classes: tuple[int, ...]
    task_labels: tuple[int, ...]
    experience: int


class TaskRouter(nn.Module):
    """Which experience does an input belong to? Any network, with an output layer that grows with the experiences.

    An experience has one unit or several, such as one for each of its classes; its probability is the sum of theirs.

    **Arguments:**

    - backbone: maps inputs to features, or to logits that then serve as features; anything past the first dimension
        is flattened. `nn.Identity()` where a shared backbone has done the work.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        require_kind("backbone", backbone, nn.Module, "a torch.nn.Module")
        self.backbone = backbone
        self.output: nn.Linear | None = None
        self.experience_of_unit: list[int] = []

    @property
    def num_experiences(self) -> int:
        """How many experiences the router tells apart."""
        return len(set(self.experience_of_unit))

    def grow(self, experience_of_unit: Sequence[int], num_features: int) -> None:
        """Add units to the output, keeping those there are.

        **Arguments:**

        - experience_of_unit: of all units, those there are coming first; experiences are numbered from 0.
        - num_features: of the backbone's flattened output.

        Raises `ValueError` if the units there are belong to other experiences.
        """
        known = len(self.experience_of_unit)
        if list(experience_of_unit[:known]) != self.experience_of_unit:
            raise ValueError(
                f"experience_of_unit begins with {list(experience_of_unit[:known])}, but the router's units belong to "
                f"{self.experience_of_unit}; a trained router keeps its router_targets"
            )
        if known == len(experience_of_unit):
            return
        old = self.output
        self.experience_of_unit = list(experience_of_unit)
        like = next(self.parameters(), torch.empty(0))
        self.output = nn.Linear(num_features, len(experience_of_unit), device=like.device).requires_grad_(False)
        if old is not None:
            with torch.no_grad():
                self.output.weight[: old.out_features] = old.weight
                self.output.bias[: old.out_features] = old.bias

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """Within this context an error leaves the router as it was before."""
        backbone = {name: value.clone() for name, value in self.backbone.state_dict().items()}
        output, experience_of_unit = copy.deepcopy(self.output), self.experience_of_unit
        try:
            yield
        except BaseException:
            self.backbone.load_state_dict(backbone)
            self.output, self.experience_of_unit = output, experience_of_unit
            self.zero_grad()
            self.requires_grad_(False).eval()
            raise

    def features(self, x: Tensor) -> Tensor:
        """`(n, ...)` to `(n, num_features)`."""
        features: Tensor = self.backbone(x)
        return features.flatten(1)

    def unit_logits(self, x: Tensor) -> Tensor:
        """Logits over units, `(n, number of units)`."""
        if self.output is None:
            raise RuntimeError("the router knows no experience yet; train the strategy on one first")
        logits: Tensor = self.output(self.features(x))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits over experiences, `(n, num_experiences)`."""
        logits = self.unit_logits(x)
        owners = torch.tensor(self.experience_of_unit, device=logits.device)
        return torch.stack([logits[:, owners == t].logsumexp(1) for t in range(self.num_experiences)], dim=1)


class RoutedModel(MultiTaskModule):
    """Task Heads behind a Task Router (CLTS, arXiv 2409.17806).

    In training mode it is the newest head; in evaluation mode, p(class) = sum over heads of p(head) p(class | head).
    A head's distribution is over the classes that it was trained on. Task labels narrow the choice to the heads trained
    under that label: in a task-incremental stream one is left and the router is not asked; in a class-incremental
    stream, where all labels are equal, they change nothing.

    **Arguments:**

    - head: a classifier over all classes, `(n, ...)` to `(n, num_classes)`. Each experience trains a copy of it from
        its present weights.
    - router: a network for the router, as in `TaskRouter`, or a `TaskRouter`.
    - backbone: frozen network that heads and router share, so that an experience costs a head on its features. None:
        heads and router see the input.
    - routing: "soft", as above, or "hard", the paper's: the likeliest head alone decides.
    - evidence: what p(head) is read from. "router"; "heads": the heads' own confidence, by which a stream without any
        replay can be routed; "both": the product of the two. A head's confidence is the free energy of its logits (Liu
        et al., NeurIPS 2020).
    """

    def __init__(
        self,
        head: nn.Module,
        router: nn.Module,
        *,
        backbone: nn.Module | None = None,
        routing: Routing = "soft",
        evidence: Evidence = "router",
    ) -> None:
        super().__init__()
        self.set_routing(routing)
        require_one_of("evidence", evidence, Evidence)
        for name, part in (("head", head), ("router", router), ("backbone", backbone or head)):
            require_kind(name, part, nn.Module, "a torch.nn.Module")
        self.evidence = evidence
        self.backbone = backbone
        if backbone is not None:
            backbone.requires_grad_(False)
        self.router = (router if isinstance(router, TaskRouter) else TaskRouter(router)).requires_grad_(False)
        # The first head is there from the start, so that an optimizer built on parameters() finds it. The template is
        # kept out of the module's reach (in a tuple): it is never trained, saved or moved.
        self.heads = nn.ModuleList([copy.deepcopy(head)])
        self._template = (head,)
        self.records: list[HeadRecord] = []
        self.num_router_features = 0  # known once the first experience is seen

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

    def adaptation(self, experience: CLExperience) -> None:
        """In training mode: freeze the heads there are, and add one for `experience`."""
        if not self.training:
            return
        self._measure(experience)
        classes = tuple(sorted(int(c) for c in experience.classes_in_this_experience))
        labels = tuple(sorted(int(t) for t in getattr(experience, "task_labels", [0])))
        self.add_head(HeadRecord(classes, labels, int(experience.current_experience)))
        for module in self.heads[-1].modules():
            if isinstance(module, DynamicModule) and module._auto_adapt:
                module.adaptation(experience)
                module._auto_adapt = False  # Avalanche must not grow it for the classes of other experiences

    def add_head(self, record: HeadRecord) -> None:
        """Freeze the heads there are, bit for bit, and start a new one."""
        for head in self.heads[: self.num_heads]:
            head.requires_grad_(False)
            for parameter in head.parameters():
                parameter.grad = None
        if self.num_heads == len(self.heads):
            self.heads.append(copy.deepcopy(self.template).to(self._adaptation_device))
        self.records.append(record)
        self.train(self.training)

    def discard_head(self) -> None:
        """Drop the newest head, as if its experience had not been trained on."""
        self.records.pop()
        self.heads[-1] = copy.deepcopy(self.template).to(self._adaptation_device)

    def train(self, mode: bool = True) -> RoutedModel:
        """Training mode is for the newest head alone: normalisation statistics of old heads must not move either."""
        super().train(False)
        self.training = mode
        self.heads[-1].train(mode)
        return self

    def forward(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """The newest head's logits in training mode, log p(class) in evaluation mode; `(n, num_classes)`.

        **Arguments:**

        - x: the inputs, `(n, ...)`.
        - task_labels: Avalanche's task labels, `(n,)`. None: unknown.
        """
        features = self.features(x)
        if self.training or not self.records:  # Avalanche also evaluates before anything is trained
            logits: Tensor = self.heads[-1](features)
            return logits
        probabilities = self._route(features, task_labels)
        if self.routing == "hard":
            probabilities = nn.functional.one_hot(probabilities.argmax(1), self.num_heads).to(probabilities.dtype)
        return self.mixture(features, probabilities)

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

    def mixture(self, features: Tensor, head_probabilities: Tensor) -> Tensor:
        """log of the sum over heads of p(head) p(class | head), `(n, num_classes)`."""
        parts = []
        for t, record in enumerate(self.records):
            asked = head_probabilities[:, t] > 0
            if not bool(asked.any()):
                continue
            logits: Tensor = self.heads[t](features[asked])
            known = torch.full_like(logits, -torch.inf)
            known[:, record.classes] = logits[:, record.classes]
            part = torch.zeros(len(features), logits.shape[1], dtype=logits.dtype, device=logits.device)
            part[asked] = known.softmax(1) * head_probabilities[asked, t, None]
            parts.append(part)
        width = max(part.shape[1] for part in parts)  # growing heads differ in width
        total = torch.stack([nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]).sum(0)
        # No class gets exactly 0: the loss of a class that no head knows yet stays finite.
        return total.clamp_min(torch.finfo(total.dtype).tiny).log()

    def confidence(self, features: Tensor) -> Tensor:
        """How sure each head is that an input is of its classes: log of the sum of exp of their logits,
        `(n, num_heads)`."""
        energies = [
            self.heads[t](features)[:, list(record.classes)].logsumexp(1) for t, record in enumerate(self.records)
        ]
        return torch.stack(energies, dim=1)

    @property
    def needs_router(self) -> bool:
        """Whether the router must be trained: some input may belong to more than one head, whatever its task label."""
        if self.evidence == "heads":
            return False
        labels = [label for record in self.records for label in record.task_labels]
        return len(set(labels)) < len(labels)

    def _route(self, features: Tensor, task_labels: Tensor | None) -> Tensor:
        if not self.records:
            raise RuntimeError("the model has no trained head yet; train the strategy on an experience first")
        possible = self._possible_heads(len(features), task_labels, features.device)
        if bool((possible.sum(1) == 1).all()):
            return possible.to(features.dtype)
        logits = torch.zeros(possible.shape, device=features.device)
        if self.evidence != "heads":
            logits = logits + self._router_logits(features)
        if self.evidence != "router":
            logits = logits + self.confidence(features).log_softmax(1)
        logits = logits.masked_fill(~possible, -torch.inf)
        unknown = torch.isinf(logits).all(1, keepdim=True)  # the router has seen none of the possible heads
        return logits.masked_fill(unknown & possible, 0.0).softmax(1)

    def _router_logits(self, features: Tensor) -> Tensor:
        """The router's log p(head), `(n, num_heads)`: minus infinity for a head that it has not seen, because the head
        is being trained or no caption of its experience exists."""
        logits = torch.full((len(features), self.num_heads), -torch.inf, device=features.device)
        if self.router.num_experiences > 0:
            logits[:, : self.router.num_experiences] = self.router(features).log_softmax(1)
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
    def _measure(self, experience: CLExperience) -> None:
        """Run one sample through head and router: how wide are the features, does a head know enough classes?"""
        x = experience.dataset.eval()[0][0][None].to(self._adaptation_device)
        super().train(False)
        features = self.features(x)
        num_classes = self.heads[-1](features).shape[1]
        self.num_router_features = self.router.features(features).shape[1]
        self.train(True)
        largest = max(experience.classes_in_this_experience)
        grows = any(isinstance(module, DynamicModule) for module in self.heads[-1].modules())
        if largest >= num_classes and not grows:
            raise ValueError(
                f"head tells {num_classes} classes apart, but this experience holds class {largest}; "
                f"build head with at least {largest + 1} outputs"
            )


def _is_one_of(labels: Tensor, known: Iterable[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(known), device=labels.device))
