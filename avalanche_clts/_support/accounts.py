"""Whether Weights & Biases is there, and whether a run can be begun on it."""

from __future__ import annotations

import inspect


def require_wandb() -> None:
    """Raise `ImportError`, with what to install, where wandb is missing."""
    try:
        import wandb  # noqa: F401
    except ImportError:
        raise ImportError('wandb is not installed; run: pip install "avalanche-clts[wandb]"') from None


def require_account(argument: str, project: str) -> None:
    """Raise `ValueError` where wandb would send runs to its server, and finds no key of an account. Nothing is sent.

    **Arguments:**

    - argument, project: which project was asked for by which argument, for the message.
    """
    import wandb

    if wandb.setup().settings.mode in ("offline", "dryrun", "disabled"):
        return
    if "prompt" in inspect.signature(wandb.login).parameters:
        known = wandb.login(prompt=False, verify=False)
    else:  # an older wandb
        known = wandb.api.api_key is not None
    if not known:
        wandb.teardown()  # it has read the environment once: what the remedy below sets is read the next time
        raise ValueError(
            f"{argument} is {project!r}, but wandb finds no key of an account; log in with: wandb login - or set "
            "WANDB_MODE=offline"
        )
