"""Captions in the place of images: what is kept, and how it becomes images again."""
