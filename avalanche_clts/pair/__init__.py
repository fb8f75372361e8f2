"""A captioner and a generator: from images to text and back."""
