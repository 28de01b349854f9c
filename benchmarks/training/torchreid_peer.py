"""Images a second of torchreid's own training engine; run by throughput.py in torchreid's environment.

For every empty line on standard input it takes one turn, as throughput.py's `rate` does, and prints
{"images_per_second"}; any other line ends it.
"""

import itertools
import json
import sys
import time

import torchreid

settings = json.loads(sys.argv[1])
cuda = settings["device"] == "cuda"
data = torchreid.data.ImageDataManager(
    root=settings["root"],
    sources="market1501",
    height=settings["height"],
    width=settings["width"],
    batch_size_train=settings["batch_size"],
    transforms="random_flip",
    workers=settings["workers"],
    use_gpu=cuda,
)
network = torchreid.models.build_model(
    settings["backbone"], data.num_train_pids, loss="softmax", pretrained=False, use_gpu=cuda
)
network = network.cuda() if cuda else network
optimizer = torchreid.optim.build_optimizer(network, optim="sgd", lr=1e-3)
engine = torchreid.engine.ImageSoftmaxEngine(data, network, optimizer, use_gpu=cuda, label_smooth=False)
engine.set_model_mode("train")
batches = itertools.chain.from_iterable(itertools.repeat(engine.train_loader))


def steps(seconds: float) -> tuple[int, float]:
    """Train for so many seconds, one step at least; how many steps, and the seconds they took."""
    begun = time.perf_counter()
    for count in itertools.count(1):
        engine.forward_backward(next(batches))  # ends with loss.item(), so the device is done
        if (taken := time.perf_counter() - begun) > seconds:
            return count, taken


for line in sys.stdin:
    if line.strip():
        break
    steps(settings["warm_up"])
    count, taken = steps(settings["seconds"])
    print(json.dumps({"images_per_second": count * settings["batch_size"] / taken}), flush=True)
