"""Which files of a checkpoint are loaded, and no others: what must be there, what is fetched, what is counted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from .repositories import Listing
from .weights import MissingWeightsError

Format = Literal["safetensors", "bin"]
Kind = Literal["captioner", "generator", "autoencoder", "lora"]

# Captioners that are known how to be told what to write, by the model_type of their configuration.
CHATS = ("idefics3", "qwen2_5_vl", "qwen3_vl")
INSTRUCTED = (*CHATS, "florence2")
FAMILIES = ("blip", "blip-2", "git", "vision-encoder-decoder", *INSTRUCTED)
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")

_STEMS: dict[Format, tuple[str, ...]] = {
    "safetensors": ("model", "diffusion_pytorch_model"),
    "bin": ("pytorch_model", "diffusion_pytorch_model"),
}
_VARIANT = re.compile(r"(?:model|pytorch_model|diffusion_pytorch_model)\.(\w+)\.(?:safetensors|bin)")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})")
# What transformers reads beside a model's configuration and weights.
_IMAGE_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
# Of a tokenizer: any of these files, or all of several.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)
_BESIDE = (
    *_IMAGE_PROCESSORS,
    *dict.fromkeys(name for names in _VOCABULARIES for name in names),
    *_CHAT_TEMPLATES,
    "video_preprocessor_config.json",  # a processor that reads films as well is not loaded without
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SETTINGS = (".json", ".txt", ".model", ".jinja")  # of a pipeline's parts
_LORA = "pytorch_lora_weights"  # as diffusers saves it


@dataclass(frozen=True)
class Weights:
    """The files with a model's weights: one, or several and their index."""

    files: tuple[str, ...]
    format: Format
    variant: str | None


@dataclass(frozen=True)
class Part:
    """A checkpoint that a pair is made of.

    **Arguments:**

    - name: a folder, or a repository on the hub.
    - revision: branch, tag or commit on the hub.
    - variant: of a generator's weights' files, such as "fp16".
    - weight_name: the file with a LoRA's weights. None: the only one, or as diffusers names it.
    - left_out: of a generator's models, those that are not loaded.
    """

    kind: Kind
    name: str
    revision: str | None = None
    variant: str | None = None
    weight_name: str | None = None
    left_out: frozenset[str] = frozenset()

    def files(self, listing: Listing) -> list[str]:
        """Those that are loaded of the checkpoint's.

        Raises `MissingWeightsError` if one that is needed is not listed, and `ValueError` for a checkpoint of another
        kind, or without the variant or the weights' file that were asked for.
        """
        if self.kind == "captioner":
            return _captioner_files(listing)
        if self.kind == "generator":
            return _pipeline_files(listing, self.variant, self.left_out)
        if self.kind == "autoencoder":
            return _autoencoder_files(listing)
        return [lora_file(listing, self.weight_name)]


def weights_of(listing: Listing, folder: str, variant: str | None = None) -> Weights:
    """The files with the weights of the model in a folder of the checkpoint, "" for its own: safetensors where it has
    them, otherwise `.bin`; of the variant where it has it.

    Raises `MissingWeightsError` if there are none, or not all.
    """
    start = f"{folder}/" if folder else ""
    names = {path.removeprefix(start) for path in listing.sizes if path.startswith(start)}
    for chosen in dict.fromkeys([variant, None]):
        for format, stems in _STEMS.items():
            for stem in stems:
                found = _named(names, stem, chosen, format)
                if found:
                    _require_shards(listing, folder, [start + name for name in found])
                    return Weights(tuple(start + name for name in found), format, chosen)
    others = {match[1] for match in map(_VARIANT.fullmatch, names) if match} - {variant}
    if others and folder:  # of a captioner no variant can be chosen
        told = " and ".join(sorted(others))
        raise ValueError(f"{listing.path_of(folder)} has its weights as {told} alone; give variant={min(others)!r}")
    raise MissingWeightsError(
        f"{listing.path_of(folder)} has no .safetensors file and no .bin with a model's weights; "
        "copy the whole checkpoint again"
    )


def _require_shards(listing: Listing, folder: str, found: list[str]) -> None:
    """Raise `MissingWeightsError` unless all files are there that the weights were divided into, if they were."""
    counts = {int(shard[1]) for shard in map(_SHARD.search, found) if shard}
    index = found[0]
    if counts and len(found) < max(counts) + 1:  # the index counts too
        raise MissingWeightsError(
            f"{listing.path_of(folder)} has {len(found) - 1} of the {max(counts)} files with its weights; copy the "
            "whole checkpoint again"
        )
    if not index.endswith(".json") or not (listing.folder / index).is_file():
        return
    parts = listing.json(index).get("weight_map")
    named = set(parts.values()) if isinstance(parts, dict) else set()
    beside = {PurePosixPath(path).name for path in found[1:]}
    if not named or not named <= beside:
        raise MissingWeightsError(
            f"{listing.path_of(index)} does not go with the weights beside it"
            f"{''.join(f': there is no {name}' for name in sorted(map(str, named - beside))[:1])}; copy the whole "
            "checkpoint again"
        )


def _named(names: set[str], stem: str, variant: str | None, format: Format) -> list[str]:
    infix = "" if variant is None else f".{variant}"
    if f"{stem}{infix}.{format}" in names:
        return [f"{stem}{infix}.{format}"]
    index = f"{stem}.{format}.index{infix}.json"
    shards = re.compile(
        rf"{re.escape(stem + infix)}-\d{{5}}-of-\d{{5}}\.{format}|"
        rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}{re.escape(infix)}\.{format}"
    )
    return [index, *sorted(name for name in names if shards.fullmatch(name))] if index in names else []


def _captioner_files(listing: Listing) -> list[str]:
    _require_entry(listing, "config.json")
    kind = listing.json("config.json").get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"name_or_path is {listing.where}, a {kind} model; known kinds: {', '.join(FAMILIES)}")
    if kind == "florence2" and "auto_map" in listing.json("config.json"):
        raise ValueError(
            f"name_or_path is {listing.where}, whose weights are for code that comes with it, which is not run; give "
            "one for transformers' own, such as florence-community/Florence-2-base"
        )
    if kind in CHATS and not _has_chat_template(listing):
        raise ValueError(
            f"name_or_path is {listing.where}, a {kind} model without a chat template; give an instruct one"
        )
    config = listing.json("config.json")
    if kind == "blip-2" and config.get("image_token_index", config.get("image_token_id")) is None:
        raise ValueError(
            f"name_or_path is {listing.where}, a blip-2 model of an older format, whose config.json has no "
            "image_token_index; copy the newest of it"
        )
    if kind in INSTRUCTED and "tokenizer_config.json" not in listing.sizes:
        raise MissingWeightsError(f"{listing.where} has no tokenizer_config.json; copy the whole checkpoint")
    # Of several processors together, or by itself.
    together = "image_processor" in listing.json("processor_config.json")
    if "preprocessor_config.json" not in listing.sizes and not together:
        raise MissingWeightsError(
            f"{listing.where} has no image processor, no preprocessor_config.json and none in processor_config.json; "
            "copy the whole checkpoint"
        )
    _require_vocabulary(listing, "")
    beside = [name for name in _BESIDE if name in listing.sizes]
    return ["config.json", *beside, *weights_of(listing, "").files]


def _require_vocabulary(listing: Listing, folder: str) -> None:
    """Raise `MissingWeightsError` if a tokenizer has no vocabulary: transformers would make do with an empty one."""
    start = f"{folder}/" if folder else ""
    if not any(all(listing.sizes.get(start + name) for name in names) for names in _VOCABULARIES):
        known = ", ".join(" and ".join(names) for names in _VOCABULARIES)
        raise MissingWeightsError(
            f"{listing.path_of(folder)} has no tokenizer, none of {known}; copy the whole checkpoint"
        )


def _has_chat_template(listing: Listing) -> bool:
    settings = ("processor_config.json", "tokenizer_config.json")
    return any(name in listing.sizes for name in _CHAT_TEMPLATES) or any(
        "chat_template" in listing.json(name) for name in settings
    )


def pipeline_parts(listing: Listing) -> dict[str, list[str]]:
    """Library and class of a pipeline's parts, by their names."""
    # Entries such as "unet": ["diffusers", "UNet2DConditionModel"] name the parts; [null, null] is a part left out.
    index = listing.json("model_index.json")
    return {
        name: entry
        for name, entry in index.items()
        if isinstance(entry, list) and not name.startswith("_") and entry and entry[0] is not None
    }


def _pipeline_files(listing: Listing, variant: str | None, left_out: frozenset[str]) -> list[str]:
    _require_entry(listing, "model_index.json")
    chosen = ["model_index.json"]
    variants = set()
    for part, entry in pipeline_parts(listing).items():
        if part in left_out:
            # What replaces the part is compared with its configuration.
            chosen += [path for path in (f"{part}/config.json",) if path in listing.sizes and part == "vae"]
            continue
        own = [path for path in listing.sizes if path.startswith(f"{part}/") and path.count("/") == 1]
        settings = [path for path in own if PurePosixPath(path).suffix in _SETTINGS and ".index." not in path]
        if not any(path.endswith(".json") for path in settings):
            without = ", or give safety_checker=False" if part == "safety_checker" else ""
            raise MissingWeightsError(
                f"{listing.path_of(part)} is missing or empty; copy the whole checkpoint again{without}"
            )
        if "Tokenizer" in str(entry[-1]):
            _require_vocabulary(listing, part)
        chosen += settings
        if f"{part}/config.json" in own:
            weights = weights_of(listing, part, variant)
            variants.add(weights.variant)
            chosen += weights.files
    if variant is not None and variant not in variants:
        raise ValueError(
            f"variant is {variant!r}, which {listing.where} does not have; give None, or a variant of its files' names"
        )
    return chosen


def _autoencoder_files(listing: Listing) -> list[str]:
    _require_entry(listing, "config.json")
    kind = listing.json("config.json").get("_class_name", "AutoencoderKL")
    if kind not in AUTOENCODERS:
        raise ValueError(f"autoencoder is {listing.where}, a {kind}; it must be an AutoencoderKL or an AutoencoderTiny")
    return ["config.json", *weights_of(listing, "").files]


def lora_file(listing: Listing, weight_name: str | None) -> str:
    """The file with a LoRA's weights.

    Raises `MissingWeightsError` if there is none, and `ValueError` if it is not among the files, or if there are
    several and none is named.
    """
    for ending in (".safetensors", ".bin"):
        files = sorted(path for path in listing.sizes if path.endswith(ending))
        if weight_name is not None:
            if weight_name in files:
                return weight_name
        elif f"{_LORA}{ending}" in files:
            return f"{_LORA}{ending}"
        elif len(files) == 1:
            return files[0]
        elif files:
            raise ValueError(
                f"lora is {listing.where}, which has several files of weights; give lora_weight_name, one of "
                f"{', '.join(files)}"
            )
    if weight_name is not None:
        raise ValueError(f"lora_weight_name is {weight_name!r}, which {listing.where} does not have")
    raise MissingWeightsError(f"lora is {listing.where}, which has no .safetensors or .bin with its weights")


def _require_entry(listing: Listing, entry: str) -> None:
    if entry not in listing.sizes:
        raise MissingWeightsError(
            f"{listing.where} has no {entry}; copy the whole checkpoint, as save_pretrained wrote it"
        )
