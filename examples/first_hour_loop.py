"""A training loop of one's own, compiled, in two processes: ``torchrun --nproc-per-node 2 first_hour_loop.py``.

A network of Zoo is a module as any other. With timm, two lines differ: those that create the network and its transform.
"""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import ImageFolder

import zoo


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    network = zoo.create(os.environ.get("NETWORK", "resnet20.c10"), pretrained=True, num_classes=3)
    images = ImageFolder("photos/train", zoo.transforms(network))
    model = torch.compile(DistributedDataParallel(network.train()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    sampler = DistributedSampler(images)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch, labels in DataLoader(images, 15, sampler=sampler, drop_last=True):
            loss = torch.nn.functional.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total = loss.detach()
        dist.all_reduce(total)
        if dist.get_rank() == 0:
            print(
                f"epoch {epoch}  loss {total.item() / dist.get_world_size():.3f}  in {dist.get_world_size()} processes"
            )
    if dist.get_rank() == 0:
        torch.save(network.state_dict(), "loop.pth")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
