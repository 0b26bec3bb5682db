"""Train with every pathway of the one list, in two processes or in one; the weights go to a file.

Arguments: rank, number of processes, file by which the processes meet, file of the results. Each
rule is trained with plain `DistributedDataParallel`; alone, with the joined batch.
"""

import contextlib
import runpy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from neurofb import feedback as fb

LAWS = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
PATHWAYS, Net = LAWS["PATHWAYS"], LAWS["Net"]
NUM_STEPS, NUM_IMAGES = 3, 8


def final_state(spec: fb.PathwaySpec, rank: int, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    net = Net().double()
    x = torch.randn(NUM_STEPS, NUM_IMAGES, 2, 6, 6, dtype=torch.float64)
    labels = torch.randint(3, (NUM_STEPS, NUM_IMAGES))
    fb.attach(net, {"layer": spec}, example_input=x[0], seed=3)
    start = {name: value.clone() for name, value in net.state_dict().items() if is_tensor(value)}
    forward = DistributedDataParallel(net) if count > 1 else net
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for images, classes in zip(x, labels, strict=True):
        own, targets = images.chunk(count)[rank], classes.chunk(count)[rank]
        optimiser.zero_grad()
        loss = F.cross_entropy(forward(own), targets)
        fb.present_targets(net, targets)
        with fb.shared_batches() if count > 1 else contextlib.nullcontext():
            loss.backward()
        optimiser.step()
    state = net.state_dict()
    assert fb.fired(net) == {"layer": NUM_STEPS}
    return {name: torch.stack([start[name], state[name]]) for name in start}


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def main(rank: int, count: int, meeting_file: str, result_file: str) -> None:
    torch.set_num_threads(1)
    if count > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting_file}", rank=rank, world_size=count
        )
    states = {name: final_state(spec, rank, count) for name, spec in PATHWAYS.items()}
    torch.save(states, result_file)
    if count > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
