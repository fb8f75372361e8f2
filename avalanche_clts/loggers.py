"""Avalanche's logger for Weights & Biases, mended."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from avalanche.evaluation.metric_results import TensorImage
from avalanche.logging import WandBLogger

from ._support.accounts import require_wandb
from ._support.console import tell


class TextWandBLogger(WandBLogger):
    """Avalanche's `WandBLogger`, which also works with a recent wandb and also logs metrics whose value is a text.

    It needs the extra `wandb`. Without a network, or an account, set `WANDB_MODE=offline`.

    ```python
    from avalanche_clts.loggers import TextWandBLogger

    logger = TextWandBLogger(project_name="my-project", run_name="clts")
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True), clts_metrics(captions=True), loggers=[logger])
    ```

    **Arguments:** as those of `WandBLogger`.

    Raises `ImportError` without the extra, and `ValueError` where wandb cannot begin a run.
    """

    def import_wandb(self) -> None:
        """What Avalanche asks of wandb, and recent ones no longer have under these names, beside all the rest."""
        require_wandb()
        import wandb

        self.wandb = _Mended(wandb)

    def before_run(self) -> None:
        """Begin wandb's run."""
        if self.wandb is None:  # as after a checkpoint
            self.import_wandb()
        try:
            super().before_run()
        except self.wandb.errors.Error as error:
            raise ValueError(
                f"wandb cannot begin a run ({str(error).splitlines()[0]}); log in with: wandb login - or set "
                "WANDB_MODE=offline"
            ) from error

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Log a value."""
        if isinstance(value, str):
            self.step = x_plot
            self.wandb.log({name: value}, step=x_plot)
        elif isinstance(value, TensorImage):  # channels first: Avalanche takes them for the last
            self.step = x_plot
            self.wandb.log({name: self.wandb.Image(value.image)}, step=x_plot)
        else:
            super().log_single_metric(name, value, x_plot)


class _Mended:
    """wandb as Avalanche knows it."""

    def __init__(self, wandb: Any) -> None:
        self.util = SimpleNamespace(generate_id=lambda: secrets.token_hex(4))
        self.viz = SimpleNamespace(CustomChart=wandb.plot.CustomChart)
        self._wandb = wandb

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wandb, name)


class WandBRuns(NamedTuple):
    """Where the runs of an experiment are logged.

    **Arguments:**

    - project: its name on Weights & Biases.
    - folder: of wandb's own files.
    """

    project: str
    folder: Path

    @contextmanager
    def logger(self, name: str, config: dict[str, Any]) -> Iterator[TextWandBLogger]:
        """A logger of one run, which ends with it. **Arguments:** as wandb has them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        require_wandb()
        import wandb

        logger = TextWandBLogger(
            project_name=self.project,
            run_name=name,
            save_code=False,
            dir=str(self.folder),
            config=config,
            params={"settings": wandb.Settings(silent=True, console="off"), "reinit": "finish_previous"},
        )
        if wandb.run is not None and wandb.run.url:
            tell(f"{name}: {wandb.run.url}")
        failed = True
        try:
            yield logger
            failed = False
        finally:
            wandb.finish(exit_code=int(failed))
