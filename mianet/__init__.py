"""MIANet (Zhang et al., Neural Networks 2021): data, model, training and validation protocol."""
