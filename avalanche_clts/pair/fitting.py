"""Do a generator's parts fit each other? Asked of their configurations and of the headers of their weights."""

from __future__ import annotations

import inspect
import re
from importlib.util import find_spec
from math import lcm
from typing import Any

from .parts import pipeline_parts, weights_of
from .pipeline_kinds import ONE_OF, PIPELINES, not_linear
from .plans import Plan
from .repositories import Listing
from .weights import MissingWeightsError, shapes_in


def require_pipeline(listing: Listing) -> None:
    """Raise `ValueError` unless the checkpoint is one of the pipelines that are known, and all its code is that of
    diffusers and transformers; and `ImportError` without what its tokenizers need."""
    kind = listing.json("model_index.json").get("_class_name")
    if kind not in PIPELINES:
        raise ValueError(f"name_or_path is {listing.where}, a {kind}; {ONE_OF}")
    parts = pipeline_parts(listing)
    _require_parts(listing, kind, parts)
    for part, entry in parts.items():
        if f"{part}/config.json" in listing.sizes and model_class(entry) is None:
            raise ValueError(
                f"{listing.path_of(part)} is a {entry[-1]} of {entry[0]}, which neither diffusers nor transformers "
                "know; code that comes with a checkpoint is not run: load it yourself and give it as pipeline="
            )
        names = {path.removeprefix(f"{part}/") for path in listing.sizes if path.startswith(f"{part}/")}
        if "spiece.model" in names and "tokenizer.json" not in names and find_spec("sentencepiece") is None:
            raise ImportError(
                f"{listing.path_of(part)} is a tokenizer that needs sentencepiece; run: "
                'pip install "avalanche-clts[sentencepiece]"'
            )


def _require_parts(listing: Listing, kind: str, parts: dict[str, list[str]]) -> None:
    """Raise `MissingWeightsError` unless the index names what the pipeline is made of, and `ValueError` for a scheduler
    that diffusers does not know."""
    import diffusers

    pipeline = getattr(diffusers, kind)
    needed = [
        name
        for name, parameter in inspect.signature(pipeline.__init__).parameters.items()
        if name != "self" and parameter.default is inspect.Parameter.empty and name not in pipeline._optional_components
    ]
    absent = [name for name in needed if name not in parts]
    if absent:
        raise MissingWeightsError(
            f"{listing.where}/model_index.json names no {', '.join(absent)}, which a {kind} is made of; copy the whole "
            "checkpoint again, or load it yourself and give it as pipeline="
        )
    own = _own_scheduler(listing)
    if own is not None and not hasattr(diffusers, own):
        raise ValueError(
            f"{listing.path_of('scheduler')} is a {own}, which diffusers {diffusers.__version__} does not know; "
            "upgrade it, or write another into model_index.json and scheduler/"
        )


def model_class(entry: Any) -> Any:
    """The class that a part's entry in `model_index.json` names, if it is one of a model; otherwise None."""
    import diffusers
    import transformers

    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        return None
    libraries = {"diffusers": diffusers, "transformers": transformers}
    library = libraries.get(entry[0], getattr(diffusers.pipelines, entry[0], None))  # or a pipeline's own module
    kind = getattr(library, entry[1], None)
    is_model = isinstance(kind, type) and issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel))
    return kind if is_model else None


def scheduler_class(name: str) -> Any:
    """One of diffusers' schedulers. Raises `ValueError` for any other name."""
    import diffusers

    scheduler = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)):
        raise ValueError(f"scheduler is {name!r}; it must be the name of one of diffusers' schedulers")
    return scheduler


def require_scheduler(listing: Listing, name: str) -> None:
    """Raise `ValueError` unless diffusers has the scheduler, and it can stand in for the pipeline's own."""
    chosen = scheduler_class(name)
    config = listing.json("scheduler/scheduler_config.json")
    own = _own_scheduler(listing)
    if own is None or own == name or _fits(chosen, scheduler_class(own), config):
        told = PIPELINES[listing.json("model_index.json")["_class_name"]].schedules
        if told is None or told in inspect.signature(chosen.set_timesteps).parameters:
            return
    raise ValueError(
        f"scheduler is {name!r}, which cannot stand in for the {own} of {listing.where}; give one of its kind, or "
        "set it on a pipeline of your own and give that as pipeline="
    )


def _own_scheduler(listing: Listing) -> str | None:
    """The class of the pipeline's, which need not be the one that its configuration was written by."""
    entry = pipeline_parts(listing).get("scheduler")
    return None if entry is None else entry[-1]


def _fits(chosen: Any, own: Any, config: dict[str, Any]) -> bool:
    """Whether a scheduler takes a model to be trained for what the pipeline's own, of this configuration, does: noise
    by a schedule of betas, flow matching, or its own."""
    if config.get("prediction_type") == "flow_prediction":  # by a scheduler that knows noise as well
        return "use_flow_sigmas" in inspect.signature(chosen.__init__).parameters
    return _family(chosen) == _family(own)


def _family(scheduler: Any) -> str:
    if "beta_schedule" in inspect.signature(scheduler.__init__).parameters:
        return "noise"
    return "flow" if scheduler.__name__.startswith("FlowMatch") else scheduler.__name__


def require_size(listing: Listing, height: int | None, width: int | None) -> None:
    """Raise `ValueError` unless the pipeline can make images of this height and width."""
    multiple = _multiple(listing)
    for name, pixels in (("height", height), ("width", width)):
        if pixels is not None and pixels % multiple:
            raise ValueError(f"{name} is {pixels}; {listing.where} makes images of multiples of {multiple} pixels")


def _multiple(listing: Listing) -> int:
    """Of pixels: whole latents, and whole patches of them."""
    kind = PIPELINES[listing.json("model_index.json")["_class_name"]]
    _, scale = _latents(listing.json("vae/config.json"))
    patch = kind.patch or listing.json("transformer/config.json").get("patch_size", 1)
    return lcm(kind.multiple, scale * patch)


def require_steps(listing: Listing, scheduler: str | None, steps: int | None) -> None:
    """Raise `ValueError` unless the pipeline can make images in so many steps."""
    own = _own_scheduler(listing)
    is_pixart = listing.json("model_index.json")["_class_name"] == "PixArtAlphaPipeline"
    if is_pixart and steps == 1 and (scheduler or own) != "LCMScheduler":
        # It would ask its scheduler for what others do not return.
        raise ValueError(f"steps is 1, and {listing.where} makes images in one step with the LCMScheduler alone")
    # Others' schedules are the pipeline's own, and the step of a SanaSprintPipeline's scheduler is another.
    if listing.json("model_index.json")["_class_name"] not in ("FluxPipeline", "SanaSprintPipeline"):
        _require_sampling(listing, scheduler or own, steps)


def _require_sampling(listing: Listing, scheduler: str | None, steps: int | None) -> None:
    """Raise `ValueError` unless the scheduler goes through so many steps, tried on a few numbers: which of them cannot
    begin with few, or have more than they were trained for, is known to them alone."""
    import diffusers
    import torch

    from .isolated import without_warnings

    config = listing.json("scheduler/scheduler_config.json")
    if scheduler is None or config.get("use_dynamic_shifting"):
        return
    kind = listing.json("model_index.json")["_class_name"]
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(getattr(diffusers, kind).__call__).parameters.items()
    }
    told, count = PIPELINES[kind].schedules, steps or defaults["num_inference_steps"]
    try:
        with torch.random.fork_rng(devices=[]), without_warnings():
            chosen = scheduler_class(scheduler).from_config(config)
            chosen.set_timesteps(count, **({} if told is None else {told: None}))
            _sample(chosen, eta=defaults.get("eta"))
    except Exception as error:  # of any kind: each has its own
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"steps is {count}, and the {scheduler} of {listing.where} cannot make images in so many ({reason}); give "
            "other steps, or another scheduler"
        ) from None


def _sample(scheduler: Any, *, eta: float | None) -> None:
    """Go through the steps with a denoiser that sees no noise; raises what the scheduler does, or `ValueError` for
    numbers that are not finite.

    **Arguments:**

    - eta: that the pipeline hands on to each step that takes one.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    taken = inspect.signature(scheduler.step).parameters
    options = {name: value for name, value in (("generator", generator), ("eta", eta)) if name in taken}
    latents = torch.randn(1, 4, 2, 2, generator=generator)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(torch.zeros_like(seen), timestep, latents, **options, return_dict=False)[0]
    if not bool(latents.isfinite().all()):
        raise ValueError("its numbers are not finite")


def require_linear(listing: Listing) -> None:
    """Raise `ValueError` unless the pipeline's latents are pictures that a linear decoder can be fitted to."""
    kind = listing.json("model_index.json")["_class_name"]
    if not PIPELINES[kind].linear:
        raise ValueError(not_linear(listing.where, kind))


def require_autoencoder(pipeline: Listing, autoencoder: Listing) -> None:
    """Raise `ValueError` unless the autoencoder is one for latents of the pipeline's channels and size."""
    own = pipeline.json("vae/config.json")
    if not own:
        raise ValueError(
            f"autoencoder is {autoencoder.where}, and {pipeline.where} has none that it could stand in for"
        )
    (channels, scale), (other_channels, other_scale) = map(_latents, (own, autoencoder.json("config.json")))
    if (channels, scale) != (other_channels, other_scale):
        raise ValueError(
            f"autoencoder is {autoencoder.where}, for latents of {other_channels} channels and 1/{other_scale} of the "
            f"image's side; those of {pipeline.where} have {channels} channels and 1/{scale}"
        )


def _latents(config: dict[str, Any]) -> tuple[int, int]:
    """Channels, and how many pixels a side each latent pixel stands for, with diffusers' defaults."""
    if config.get("_class_name") == "AutoencoderTiny":
        blocks = len(config.get("decoder_block_out_channels") or (64,) * 4)
    elif config.get("_class_name") == "AutoencoderDC":  # Sana's
        blocks = len(config.get("encoder_block_out_channels") or (64,) * 6)
    else:
        blocks = len(config.get("block_out_channels") or (64,))
    return int(config.get("latent_channels", 4)), 2 ** (blocks - 1)


def require_lora_extra(name: str) -> None:
    """Raise `ImportError` without peft."""
    if find_spec("peft") is None:
        raise ImportError(f'lora is {name!r}, which needs peft; run: pip install "avalanche-clts[lora]"')


def require_lora(pipeline: Plan, lora: Plan) -> None:
    """Raise `ValueError` unless the low-rank weights are some for the pipeline's own models. Both are on this machine.

    They are read as diffusers reads them, which knows several ways to name them.
    """
    import diffusers
    import torch

    kind = getattr(diffusers, pipeline.listing.json("model_index.json")["_class_name"])
    misfit = f"lora is {lora.part.name!r}, of whose weights none fits the pipeline; give one for its kind"
    if not hasattr(kind, "lora_state_dict"):
        raise ValueError(f"lora is {lora.part.name!r}, and a {kind.__name__} takes none")
    options = {"weight_name": lora.files[0], "use_safetensors": lora.files[0].endswith(".safetensors")}
    if hasattr(kind, "unet_name"):
        unet = diffusers.UNet2DConditionModel.load_config(pipeline.folder / kind.unet_name)
        options["unet_config"] = _Attributes(unet)
    try:
        read = kind.lora_state_dict(str(lora.folder), **options)
    except (ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{misfit} ({str(error).partition(chr(10))[0]})") from None
    weights = read[0] if isinstance(read, tuple) else read
    shapes = {
        f"{part}.{name}": shape
        for part in pipeline_parts(pipeline.listing)
        if part in getattr(kind, "_lora_loadable_modules", [])
        for name, shape in _shapes_of(pipeline, part).items()
    }
    fitting = 0
    for name, value in weights.items():
        module, dot, side = _split(name)
        target = shapes.get(f"{module}.weight") or shapes.get(f"{module}.base_layer.weight")
        if dot and target is not None and isinstance(value, torch.Tensor):
            fitting += 1
            axis = 1 if side in ("lora_A", "lora.down", "lora_linear_layer.down") else 0
            if value.shape[axis] != target[axis]:
                raise ValueError(
                    f"lora is {lora.part.name!r}, whose {name} is for {value.shape[axis]} channels, and the pipeline's "
                    f"has {target[axis]}; give one for its kind"
                )
    # How text encoders name their weights changes with the version of transformers: these are left to the loading.
    if not fitting and not any(name.startswith("text_encoder") for name in weights):
        raise ValueError(misfit)


class _Attributes(dict[str, Any]):
    """A configuration whose entries are attributes too, as a loaded model's."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _split(name: str) -> tuple[str, bool, str]:
    """Of a low-rank weight: the module that it is for, whether it is one at all, and its side of the product."""
    name = re.sub(r"_lora\.(down|up)\.", r".lora.\1.", name.replace(".processor.", "."))  # as diffusers once saved them
    name = name.replace(".to_out.lora.", ".to_out.0.lora.")
    for side in ("lora_A", "lora_B", "lora.down", "lora.up", "lora_linear_layer.down", "lora_linear_layer.up"):
        module, dot, _ = name.rpartition(f".{side}.")
        if dot:
            return module, True, side
    return name, False, ""


def _shapes_of(plan: Plan, part: str) -> dict[str, tuple[int, ...]]:
    try:
        files = weights_of(plan.listing, part, plan.part.variant).files
    except MissingWeightsError:  # a part without weights
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        if not path.endswith(".json"):
            found |= shapes_in(plan.folder / path)
    return found
