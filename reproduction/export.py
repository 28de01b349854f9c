"""A trained run as one ONNX file, for a tracker or a service without PyTorch: images in, the retrieval feature out."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from reid_core import files, images
from reid_core.training import run_folder

LAYER = "r5"


class Retrieval(nn.Module):
    """Normalised images (n, 3, height, width) to features (n, d) of length 1, as `features.extract` gives them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return normalize(self.network.features(images, LAYER))


def export(run_dir: str | Path, output: str | Path) -> dict[str, Any]:
    """Write the network of a finished run to an ONNX file, float32, with any number of images; return its metadata:
    what a user of the file must know, by name, in the file each as JSON.
    Raises ValueError where the extra `onnx` is not installed, for another suffix than .onnx, a file that is there
    already, or an unfinished run; FileNotFoundError for no run."""
    output = Path(output)
    if absent := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{' and '.join(absent)} not installed; export needs the extra: pip install -e '.[onnx]'")
    if output.suffix != ".onnx":
        raise ValueError(f"The output {output} must end with .onnx.")
    if output.exists():
        raise ValueError(f"{output} is there already and stays as it is; choose another name, or move it aside.")
    network, run = run_folder.load_network(run_dir)
    how = "RGB / 255, resized to size (height, width) bilinearly as Pillow does, minus mean, over std"
    size = [run["recipe"]["height"], run["recipe"]["width"]]
    facts = {"size": size, "mean": images.MEAN, "std": images.STD, "normalisation": how, "layer": LAYER}
    facts |= {"d": network.widths[LAYER], "output": "rows of length 1", "model": run["model"]}
    digest = files.digest(Path(run_dir) / run_folder.WEIGHTS)
    facts |= {"weights_sha256": digest, "data_source": run["data_source"]}
    example = torch.zeros(2, 3, *size)  # of two: one would fix the number of images
    program = torch.onnx.export(
        Retrieval(network).eval(), (example,), dynamo=True, input_names=["images"], output_names=["features"],
        dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}}, verbose=False,
    )  # fmt: skip
    program.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    with files.replacing(output) as temporary:
        program.save(temporary, external_data=False)
    return facts
