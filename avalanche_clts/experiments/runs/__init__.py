"""Runs: how they are made and kept."""
