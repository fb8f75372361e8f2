"""The words that some arguments take, apart from what they choose: a command line is checked without loading that."""

from __future__ import annotations

from typing import Literal

Routing = Literal["soft", "hard"]  # of `RoutedModel`
RouterView = Literal["input", "autoencoded"]  # what a router is shown, see `view_of`
RouterData = Literal["synthetic", "mixed"]  # what a router learns from, see `RouterTraining`
RouterTargets = Literal["classes", "experiences"]  # what a router is taught
