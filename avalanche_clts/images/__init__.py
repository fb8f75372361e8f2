"""Images: their formats, their files, and those inside Avalanche's data sets."""
