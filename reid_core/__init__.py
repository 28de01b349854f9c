"""Library of the reproducibility kit for "Hierarchical Cross Network for Person Re-identification".

Paper: arXiv 1712.06820. Each module names the section of the paper that it implements; see README.md
for the map from every table and figure to the notebook that makes it.
"""

__version__ = "0.1.0"
