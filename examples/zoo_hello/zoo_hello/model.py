"""Two convolutions, a global average and a linear layer."""

from torch import Tensor, nn
from zoo.modules import PooledClassifier


class HelloNet(PooledClassifier):
    """A network for small images, with features at full and half resolution."""

    def __init__(self, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.act = nn.ReLU()
        self.note_stage("conv1", 16, 1)
        self.note_stage("conv2", 32, 2)
        self.num_features = 32
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to B 32 H/2 W/2."""
        x = self.act(self.bn1(self.conv1(x)))
        out: Tensor = self.act(self.bn2(self.conv2(x)))
        return out


def hello_net(*, num_classes: int = 10, in_chans: int = 1) -> HelloNet:
    """The build function that the plugin's row names."""
    return HelloNet(num_classes=num_classes, in_chans=in_chans)
