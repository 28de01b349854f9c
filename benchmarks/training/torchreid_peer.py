"""Images a second of torchreid's own training engine; run by throughput.py in torchreid's environment."""

import itertools
import json
import sys
import time

import torch
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
begun, counted, first = None, 0, time.perf_counter()
for done, batch in enumerate(itertools.chain.from_iterable(itertools.repeat(engine.train_loader))):
    engine.forward_backward(batch)  # ends with loss.item(), so the device is done
    now = time.perf_counter()
    if begun is None and done >= 2 and now - first > settings["warm_up"]:
        begun = now
    elif begun is not None:
        counted += 1
        if now - begun > settings["seconds"]:
            break
if cuda:
    torch.cuda.synchronize()
print(json.dumps({"images_per_second": counted * settings["batch_size"] / (time.perf_counter() - begun)}))
