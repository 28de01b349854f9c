"""Library of the reproducibility kit for "Hierarchical Cross Network for Person Re-identification".

Paper: arXiv 1712.06820. Each module names the section of the paper that it implements; see README.md
for the map from every table and figure to the notebook that makes it.
"""

import os

__version__ = "0.1.0"

# Deterministic kernels need it, and PyTorch reads it once, at the process's first matrix product on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
