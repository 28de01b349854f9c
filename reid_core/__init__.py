"""Library of the reproducibility kit for "Hierarchical Cross Network for Person Re-identification" (arXiv 1712.06820).

The paper's sections, a line a file; how its tables are made with them says `reproduction`.

    datasets/                          Sec. 3.3, 4.1: `load` one set, `combine` several, as image tables
      table.py                         the image table and the one check of it
      layout.py                        folders of the official sets, and what to say when they are wrong
      market1501.py cuhk01.py          two sets
      cuhk03.py cuhk03_mat.py          the third, from its .mat file or as folders of images
      own.py                           a CSV file of one's own
      combined.py                      Sec. 3.3: one label a person; nobody trains who is tested
      unreadable.py cache.py           images that do not decode; what was found, remembered
    ids.py                             person and camera ids, read in one way
    images.py                          the one opener of pictures; batches for networks
    model.py                           Sec. 3.2: the ResNet-50 baseline and HCN
    training/                          Sec. 3.1: `train` makes a run folder
      recipe.py                        every setting of a run
      loop.py step.py                  the loop from top to bottom; one iteration
      batches.py                       drawn by the seed, augmented on the device
      run_folder.py checkpoint.py      what a run leaves, and what it continues from
      device_fit.py distributed.py     what a device can do of a recipe; several processes
    small_maps.py                      convolutions of few positions, fast on the CPU
    weight_files.py                    weights to start from, known by their content
    features.py feature_files.py       images to features, and the feature file; files of other tools
    own_network.py                     features by a network that is not the kit's
    distance.py copies.py              squared Euclidean distance, the one check of features; equal ones stay equal
    xqda.py                            Sec. 3.4: the metric XQDA
    reranking/                         Sec. 3.4: `k_reciprocal`, Eq. (4)
      neighbours.py tf32.py            exact nearest neighbours; what TF32's rounding leaves to float32
      reciprocal.py sparse_rows.py     reciprocal sets as sparse rows
      cost.py                          memory and time, before it starts
    compat.py                          re-ranking of distances, as other toolkits call it
    matching.py                        features to distances, as Tables 2 and 3 name them
    evaluation.py protocols.py         Sec. 4.2: CMC and mAP; the protocols, each once
    baselines/                         the literature's rows of Tables 2 and 3
      colour_histogram.py lomo.py      features made by hand
      windows.py                       what these are cut from
      kissme.py pca.py                 KISSME [13] and what goes before it
      null_space.py                    DNS [20]
      scsp.py scsp_features.py         SCSP [3]
      checks.py                        what every learner asks of its training set
    files.py machine.py progress.py    whole files, locks; device, cores, versions; bars
"""

import os

__version__ = "0.1.0"

# Deterministic kernels need it, and PyTorch reads it once, at the process's first matrix product on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
