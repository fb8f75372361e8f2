"""Pretrained vision networks below the networks of a comparison, frozen or fine-tuned."""
