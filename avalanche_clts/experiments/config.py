"""Experiments as TOML files, and those that come with the package."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from .._support.files import read_text, write_text
from ..streams.named import STREAMS, parse_stream
from .experiment import Experiment
from .rows import ROWS
from .rows.row import SHARED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXPERIMENT_FILE = "experiment.toml"  # in every folder of results
# Chosen by the search of `clts compare --tune` on a seed that no comparison reports.
_DEFAULTS = Path(__file__).parent / "defaults"
_LIKE = "shapes"  # whose hyper-parameters serve streams that have none of their own


def experiment_of(stream: str, **given: Any) -> Experiment:
    """The experiment that comes with the package for a stream, with other fields `given` in the place of its own.

    Streams for which no hyper-parameters were searched have those of Split Shapes, but for the course of the learning
    rate and augmentation, which are a stream's own.
    """
    kind = parse_stream(stream).kind
    searched, found, _ = searched_on(stream)
    fields = _defaults(kind)[0] if searched == kind else {"hyperparameters": found}
    network, pair = STREAMS[kind].network, STREAMS[kind].pair
    return Experiment(stream=stream, network=network, pair=pair, **fields).with_given(**given)


def searched_on(stream: str) -> tuple[str, dict[str, dict[str, Any]], list[str]]:
    """The embedded stream on which the hyper-parameters were searched that the package has for a stream; these; and
    whose are of a search of before, which looked at test images."""
    kind = parse_stream(stream).kind
    searched = kind if (_DEFAULTS / f"{kind}.toml").exists() else _LIKE
    fields, of_older_search = _defaults(searched)
    found = fields["hyperparameters"]
    if searched != kind:
        found = {row: {k: v for k, v in options.items() if k not in SHARED} for row, options in found.items()}
    return searched, found, of_older_search


def _defaults(kind: str) -> tuple[dict[str, Any], list[str]]:
    fields = read_fields(_DEFAULTS / f"{kind}.toml")
    return fields, fields.pop("searched_on_test_images", [])


def read_experiment(file: Path, **given: Any) -> Experiment:
    """The experiment of a TOML file, whose keys are the fields of `Experiment`; what it leaves out is as the package
    has it for the stream.

    **Arguments:**

    - given: fields in the place of the file's.

    Raises `FileNotFoundError` if it is not there, and `ValueError`, naming the file, for what an experiment does not
    have or cannot be.
    """
    fields = read_fields(file)
    stream = given.get("stream", fields.get("stream", Experiment.stream))
    try:
        if not isinstance(stream, str):
            raise TypeError(f"stream is {stream!r}; it must be a text")
        experiment = experiment_of(stream, **{name: value for name, value in fields.items() if name != "stream"})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from None
    return experiment.with_given(**given)


def read_fields(file: Path) -> dict[str, Any]:
    """The content of a TOML file, by the names of today's fields. Raises `FileNotFoundError`, and `ValueError` for what
    is not TOML."""
    try:
        return _of_today(tomllib.loads(read_text(file).removeprefix("\ufeff")))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is not there; give the file of an experiment") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is no TOML ({error})") from None


def write_experiment(file: Path, experiment: Experiment) -> None:
    """Write what `read_experiment` reads as the same experiment, whatever the package has for the stream: strategies
    without hyper-parameters are named too."""
    own = {name: experiment.hyperparameters.get(name, {}) for name, row in ROWS.items() if row.compared}
    write_text(file, to_toml({**asdict(experiment), "hyperparameters": own}))


def to_toml(fields: dict[str, Any]) -> str:
    """Fields as TOML, which has no None: such fields are left out, and a pair's arguments where there are none."""
    left_out = [name for name in ("captioner", "generator") if not fields.get(name)]
    return tomli_w.dumps({name: v for name, v in fields.items() if v is not None and name not in left_out})


def keep(experiment: Experiment, folder: Path) -> Experiment:
    """Write the experiment to the folder of its results, and return what is written.

    Where the folder holds the other kind of results of the same experiment, its strategies, or ablations, stay.
    """
    file = folder / EXPERIMENT_FILE
    earlier = read_experiment(file) if file.exists() else None
    if earlier is not None and _but_for_choice(earlier) == _but_for_choice(experiment):
        experiment = replace(
            experiment,
            strategies=experiment.strategies or earlier.strategies,
            ablations=experiment.ablations or earlier.ablations,
        )
    write_experiment(file, experiment)
    return experiment


def _but_for_choice(experiment: Experiment) -> Experiment:
    return replace(experiment, strategies=None, ablations=None)


def recorded_settings(document: dict[str, Any]) -> dict[str, Any]:
    """The settings that a `results.json` or `ablations.json` says, by the names of today's fields."""
    names = {"tuned": "hyperparameters", "view": "router_view"}
    settings = {names.get(name, name): value for name, value in document.get("settings", {}).items()}
    settings.pop("evidence", None)  # what a row of its own is for: `heads`
    return _of_today(settings)


def _of_today(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields in which a frozen backbone once was a network."""
    if fields.get("network") != "captioner":
        return fields
    return fields | {"backbone": "captioner", "network": None, "router": None}


def recorded_experiment(document: dict[str, Any]) -> Experiment:
    """The experiment that a `results.json` holds the outcome of."""
    arguments = document["arguments"]
    settings = recorded_settings(document)
    return Experiment(
        stream=arguments["stream"],
        strategies=tuple(dict.fromkeys(run["strategy"] for run in document["runs"])),
        seeds=1 + max(run["seed"] for run in document["runs"]),
        pair=arguments["pair"],
        device=arguments["device"],
        **{"router": settings.get("network"), **settings},  # once, heads and router were alike
    )
