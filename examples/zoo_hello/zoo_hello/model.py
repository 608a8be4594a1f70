"""Two convolutions, a global average and a linear layer."""

from torch import Tensor, nn


class HelloNet(nn.Module):
    """A network for small images, with features at full and half resolution."""

    def __init__(self, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.act = nn.ReLU()
        self.num_features = 32
        self.feature_info = [
            {"num_chs": 16, "reduction": 1, "module": "conv1"},
            {"num_chs": 32, "reduction": 2, "module": "conv2"},
        ]
        self.default_layers = ("conv1", "conv2")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces ``fc``; with 0 classes there is none."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to B 32 H/2 W/2."""
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits B num_classes, or to B 32 if ``pre_logits``."""
        x = x.mean(dim=(2, 3))  # B 32 h w -> B 32
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def hello_net(*, num_classes: int = 10, in_chans: int = 1) -> HelloNet:
    """The build function that the plugin's row names."""
    return HelloNet(num_classes=num_classes, in_chans=in_chans)
