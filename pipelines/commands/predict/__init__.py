"""The command `gee predict`: classes and probabilities of image files. It loads no torch, so it answers in a second."""
