"""Imports Avalanche without the warning that a solver is absent, which nothing here needs. Imported first."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="no QP solver found")
    import avalanche.training  # noqa: F401
