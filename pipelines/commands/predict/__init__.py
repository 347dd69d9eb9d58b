"""The command `gee predict`: classes and probabilities of image files. For ONNX it loads no torch, and answers in a second."""
