"""INT8 and INT4 weights: formats, linear layers and kernels."""
