"""An experiment: all that its results depend on and that can be chosen, in one dataclass."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from .._support.checks import require_flag, require_names, require_one_of, require_share, require_whole
from ..choices import RouterView, Routing
from ..networks import NETWORKS, ON_FEATURES
from ..streams.named import STREAMS
from .backbones.spec import BackboneSpec, parse_backbone
from .rows import COMPARED, ROWS
from .rows.row import AUGMENTATION, SHARED, Memory

if TYPE_CHECKING:
    from ..pair.loading import Pair

# What only strategies with a pair take notice of.
PAIR_FIELDS = ("memory", "captioner", "generator", "routing", "router_view", "router")
# What says which runs there are; every other field says how a run is made.
_CHOOSING = ("stream", "strategies", "ablations", "seeds", "tune", "pair", "device")

_OF_EVERYONE = ("train_epochs", "learning_rate")  # which a search may find for one strategy


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `clts compare` and `clts ablate` run. Fields may be given in any order; see `experiment_of` for those of a
    stream, and `with_given` for others in their place.

    **Arguments:**

    - stream: as `parse_stream` reads it.
    - strategies: names from `ROWS`, for `compare`. None: all that are compared.
    - ablations: names from `ABLATIONS`, for `ablate`. None: all.
    - seeds: 0 to `seeds - 1`.
    - tune: search the hyper-parameters first, on a seed that is not reported.
    - pair: as `load_pair` takes it.
    - captioner, generator: arguments of the pair's parts, in the place of its own, such as {"guidance_scale": 2.0}.
    - device: where everything runs.
    - backbone: a pretrained network below every strategy's, as `parse_backbone` reads it. None: there is none.
    - fine_tune: whether every network has a copy of the backbone and trains it. False: it is frozen, and shared.
    - network: of every strategy, a key of `NETWORKS`; on a backbone, of `ON_FEATURES`. None: by the size of the images;
        on a backbone, "linear".
    - router: network of CLTS's router, a key of `NETWORKS`, or a backbone with a network on its frozen features:
        "captioner", "captioner,network=mlp". None: by the size of the images, whatever `network` is, since a router
        sees every image that is regenerated and its time is most of what CLTS costs. Where heads stand on a frozen
        backbone, the router does too: "linear", as with None, or "mlp".
    - train_epochs, train_mb_size, eval_mb_size, learning_rate: of every strategy (Adam).
    - validation: share of every training experience's images that strategies are measured on, and not trained on, in
        the place of test images, as a search does. 0: they are measured on test images, and trained on all others.
    - captions_per_class: captions that CLTS keeps of each class of each experience.
    - memory: what CLTS keeps of an image: "captions"; "labels", its class name in a template; or "images", the image
        itself.
    - routing: of CLTS: "soft" or "hard".
    - router_view: what CLTS's router is shown: "input", or "autoencoded", the input after the generator's autoencoder.
        None: as the pair suggests, or else the input; on a backbone of all, where it sees no images, "input".
    - hyperparameters: by strategy, what is its own: such as {"clts": {"replay_size": 5000}}. What is left out is as the
        strategy has it by itself.

    Raises `ValueError` or `TypeError` for what does not exist or cannot be.
    """

    stream: str = "digits"
    strategies: tuple[str, ...] | None = None
    ablations: tuple[str, ...] | None = None
    seeds: int = 3
    tune: bool = False
    pair: str = "embedded"
    captioner: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    backbone: str | None = None
    fine_tune: bool = False
    network: str | None = None
    router: str | None = None
    train_epochs: int = 10
    train_mb_size: int = 32
    eval_mb_size: int = 256
    learning_rate: float = 1e-3
    validation: float = 0.0
    captions_per_class: int = 20
    memory: Memory = "captions"
    routing: Routing = "soft"
    router_view: RouterView | None = None
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("stream", "pair", "device"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be a text")
        for name in ("backbone", "network", "router"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be a text (or None)")
        for name in ("tune", "fine_tune"):
            require_flag(name, getattr(self, name))
        for name in ("strategies", "ablations"):  # lists where they were read from a file
            require_names(name, getattr(self, name))
            if getattr(self, name) is not None:
                if not getattr(self, name):
                    raise ValueError(f"{name} is empty; name some, or leave it out for all of them")
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("seeds", "train_epochs", "train_mb_size", "eval_mb_size", "captions_per_class"):
            require_whole(name, getattr(self, name))
        if isinstance(self.learning_rate, bool) or not isinstance(self.learning_rate, (int, float)):
            raise TypeError(f"learning_rate is {self.learning_rate!r}; it must be a number above 0")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate!r}; it must be a number above 0")
        require_share("validation", self.validation)
        if self.tune and self.validation:
            raise ValueError(
                f"tune is True and validation is {self.validation!r}, but a search holds images out by itself, and "
                "what it finds is reported on test images; leave either out"
            )
        for name, literal in (("memory", Memory), ("routing", Routing), ("router_view", RouterView)):
            if (name, getattr(self, name)) != ("router_view", None):
                require_one_of(name, getattr(self, name), literal)
        for name in ("captioner", "generator", "hyperparameters"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be a table of names and values")
            nothing = [option for option, value in getattr(self, name).items() if value is None]
            if nothing:  # which the file of an experiment could not say
                raise ValueError(f"{name} has {', '.join(nothing)} without a value; give one, or leave it out")
        self._require_networks()
        _require_known("strategies", self.strategies or ())
        _require_known("hyperparameters", self.hyperparameters)
        for name, options in self.hyperparameters.items():
            ROWS[name].require_options(options)
            if self.on_features and options.get(AUGMENTATION, "none") != "none":
                raise ValueError(
                    f"hyperparameters has {name}.augmentation of {options[AUGMENTATION]!r}, but backbone "
                    f"{self.backbone!r} is frozen: its features are computed once, of images as they are"
                )
        given = {name: dict(options) for name, options in self.hyperparameters.items() if options}
        object.__setattr__(self, "hyperparameters", given)

    def _require_networks(self) -> None:
        if self.backbone is None:
            if self.fine_tune:
                raise ValueError("fine_tune is True, but there is no backbone; give one")
        elif parse_backbone("backbone", self.backbone).kind == "captioner" and self.fine_tune:
            raise ValueError("fine_tune is True, but backbone is 'captioner', which is the pair's: it stays as it is")
        on_network: list[str] = list(NETWORKS if self.backbone is None else ON_FEATURES)
        if self.network is not None and self.network not in on_network:
            below = "" if self.backbone is None else f" on backbone {self.backbone!r}"
            raise ValueError(f"network is {self.network!r}; known networks{below}: {', '.join(on_network)}")
        if not self.on_features:
            self.router_backbone  # noqa: B018 - reads it, and raises for what is none
            return
        if self.router not in (None, *ON_FEATURES):
            raise ValueError(
                f"router is {self.router!r}, but with backbone {self.backbone!r} it stands on that too; "
                f"known networks there: {', '.join(ON_FEATURES)}"
            )
        if self.router_view == "autoencoded":
            raise ValueError(
                f"router_view is {self.router_view!r}, but with backbone {self.backbone!r} the router sees no images"
            )

    @property
    def on_features(self) -> bool:
        """Whether every network stands on the features of one frozen backbone."""
        return self.backbone is not None and not self.fine_tune

    @property
    def router_backbone(self) -> BackboneSpec | None:
        """The backbone of the router alone; None where it has none, or everyone's."""
        if self.on_features or self.router is None or self.router in NETWORKS:
            return None
        return parse_backbone("router", self.router, with_network=True)

    @property
    def backbones(self) -> dict[str, BackboneSpec]:
        """The backbones, by the argument that names them."""
        found = {"backbone": None if self.backbone is None else parse_backbone("backbone", self.backbone)}
        found["router"] = self.router_backbone
        return {argument: spec for argument, spec in found.items() if spec is not None}

    @property
    def chosen(self) -> list[str]:
        """The strategies to run, in the order of `ROWS`: with CLTS, where the budget of one is that of CLTS. By
        themselves, those that are made of a frozen backbone's features come only with one."""
        compared = [name for name in COMPARED if self.on_features or not ROWS[name].on_features]
        names = set(compared if self.strategies is None else self.strategies)
        if any(ROWS[name].after_clts for name in names):
            names.add("clts")
        return [name for name in ROWS if name in names]

    def with_given(self, **given: Any) -> Experiment:
        """This experiment with other fields, as a file or a command line gives them.

        Hyper-parameters are replaced strategy by strategy. Epochs and learning rate are given for everyone: no longer
        as a search had found them for some, unless those are given as well. With another backbone, the networks are
        its usual ones, and what a search found of the learning rate and of augmentation is left out.

        Raises `ValueError` for a field that does not exist, and for hyper-parameters that a search would overrule.
        """
        unknown = [name for name in given if name not in _NAMES]
        if unknown:
            raise ValueError(f"an experiment has no {', '.join(unknown)}; it has: {', '.join(_NAMES)}")
        own = self.hyperparameters
        own = {
            name: {k: v for k, v in options.items() if k not in _OF_EVERYONE or k not in given}
            for name, options in own.items()
        }
        told = given.get("hyperparameters", {})
        if not isinstance(told, Mapping):
            raise TypeError(f"hyperparameters is {told!r}; it must be a table of names and values")
        if given.get("backbone") is not None:  # networks that were chosen for images are none for features
            given = {"network": None, "router": None} | given
            own = {name: {k: v for k, v in options.items() if k not in SHARED} for name, options in own.items()}
        changed = replace(self, **given | {"hyperparameters": own | dict(told)})
        searched = [name for name in changed.chosen if ROWS[name].compared and not ROWS[name].like]
        overruled = [name for name in told if changed.tune and name in searched]
        if overruled:
            listed = ", ".join(overruled)
            raise ValueError(f"hyperparameters has {listed}, which the search would overrule; leave either out")
        return changed

    def settings(self) -> dict[str, Any]:
        """How every run is made, whichever runs there are."""
        return {name: value for name, value in asdict(self).items() if name not in _CHOOSING}

    def load_pair(self) -> Pair:
        """The pair as the experiment wants it; raises as the function of that name does."""
        from ..pair.loading import load_pair

        return self.told(load_pair(self.pair, device=self.device, captioner=self.captioner, generator=self.generator))

    def shown(self, pair: Pair, benchmark: Any) -> Experiment:
        """This experiment with what its pair suggests that the router is shown, where nothing else is asked for, and
        where the benchmark's images can be shown so."""
        from ..views import view_of

        if self.router_view is not None:
            return self
        view = None if self.on_features else view_of(None, pair)
        if view is None:
            return replace(self, router_view="input")
        try:
            for experience in benchmark.train_stream:
                view.look_at(experience.dataset)
        except ValueError:
            return replace(self, router_view="input")
        return replace(self, router_view="autoencoded")

    def told(self, pair: Pair) -> Pair:
        """The pair, whose captioner begins as suits the stream, unless it finds all words itself or was given a prefix
        by the experiment."""
        from ..pair.abilities import TakesPrefix
        from ..pair.loading import Pair

        kind = STREAMS.get(self.stream.partition(":")[0])
        template = None if kind is None else kind.template
        if template is None or "prefix" in self.captioner or not isinstance(pair.captioner, TakesPrefix):
            return pair
        return Pair(pair.captioner.with_prefix(template), pair.generator)

    def needs_pair(self, strategy: str) -> bool:
        """Whether a strategy's outcome depends on the pair."""
        return ROWS[strategy].needs_pair or "captioner" in [spec.kind for spec in self._backbones_of(strategy)]

    def options_of(self, strategy: str) -> dict[str, Any]:
        """The hyper-parameters of a strategy: its own, before those of the one that it is like."""
        return {**self.hyperparameters.get(ROWS[strategy].like, {}), **self.hyperparameters.get(strategy, {})}

    def _backbones_of(self, strategy: str) -> list[BackboneSpec]:
        """Those that a strategy, or its budget, depends on."""
        known = self.backbones
        return [known[name] for name in known if name == "backbone" or ROWS[strategy].needs_pair]

    def dependencies(self, strategy: str, conditions: Conditions, contents: str | None = None) -> dict[str, Any]:
        """All that a run of `strategy` depends on but its stream's name and its seed: of the experiment, none that is
        another strategy's, and none of a pair that it has no use for.

        **Arguments:**

        - conditions: what is there beside the experiment.
        - contents: a digest of the stream's images, where the stream's name does not say which they are.
        """
        row = ROWS[strategy]
        settings = {k: v for k, v in self.settings().items() if row.needs_pair or k not in PAIR_FIELDS}
        names = [strategy, *filter(None, [row.like, "clts" if row.after_clts else ""])]
        settings["hyperparameters"] = {name: self.hyperparameters.get(name, {}) for name in names}
        found = {"settings": settings, "device": self.device, "versions": conditions.versions}
        if self.needs_pair(strategy):
            found |= {"pair": conditions.pair, "class_names": list(conditions.class_names)}
        backbones = {spec.text: conditions.backbones.get(spec.text) for spec in self._backbones_of(strategy)}
        if backbones:
            found["backbones"] = backbones
        if contents is not None:
            found["contents"] = contents
        return found

    def digest(self, strategy: str, conditions: Conditions, contents: str | None = None) -> str:
        """What tells a run of `strategy` from one under other settings, with another pair, on another device."""
        text = json.dumps(self.dependencies(strategy, conditions, contents), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_NAMES = [f.name for f in fields(Experiment)]


@dataclass(frozen=True)
class Conditions:
    """What runs depend on that no experiment says.

    **Arguments:**

    - pair: what tells the pair from others; see `pair_identity`.
    - versions: of Python packages, by name.
    - backbones: what tells their weights from others, by the text that names each.
    - class_names: of the stream, in the words of prompts: what WordNet ids mean is in no image.
    """

    pair: list[str]
    versions: dict[str, str]
    backbones: dict[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()


def _require_known(argument: str, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise ValueError(f"{argument} has {', '.join(unknown)}; known strategies: {', '.join(COMPARED)}")
