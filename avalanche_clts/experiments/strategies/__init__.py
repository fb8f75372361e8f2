"""What rows are built of where Avalanche does not have it: models, plugins and their training."""
