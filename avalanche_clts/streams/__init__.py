"""Continual-learning streams."""
