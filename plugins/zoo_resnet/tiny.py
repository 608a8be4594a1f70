"""ResNet-8, the image classifier of the MLPerf Tiny benchmark.

Banbury et al. 2021, "MLPerf Tiny Benchmark", and its authors' Keras file (mlcommons/tiny,
benchmark/training/image_classification/keras_model.py, resnet_v1_eembc with 16 filters). Keys follow
this family's other networks.

Faithful: convolutions with biases, shortcuts of a bare 1x1 convolution, TensorFlow's padding, which at
stride 2 lies behind an even side only, and batch normalisation's epsilon of 1e-3. The 78,666 parameters that
Keras counts are our 78,186 and 480 means and variances of batch normalisation.
Deviates: weights are drawn by the fan of the output, as in the rest of the family, Keras's by the input's.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.modules import PooledClassifier, he_initialize


def _norm(chans: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(chans, eps=1e-3)


class TinyBlock(nn.Module):
    """Two 3x3 convolutions; a 1x1 convolution as the shortcut where the shape changes."""

    def __init__(self, in_chans: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=3, stride=stride, padding=1 if stride == 1 else 0)
        self.bn1 = _norm(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.bn2 = _norm(width)
        self.act2 = nn.ReLU()
        self.downsample = (
            nn.Conv2d(in_chans, width, kernel_size=1, stride=stride) if stride != 1 or in_chans != width else None
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (width % 2, 1, height % 2, 1)) if self.stride == 2 else x
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(padded)))))
        out: Tensor = self.act2(residual + (x if self.downsample is None else self.downsample(x)))
        return out


class TinyResNet(PooledClassifier):
    """A network for 32x32 images: 3x3 stem, stages of one block each, of 16, 32 and 64 channels, global average, linear
    layer."""

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1)
        self.bn1 = _norm(16)
        self.act1 = nn.ReLU()
        self.layer1 = nn.Sequential(TinyBlock(16, 16, stride=1))
        self.layer2 = nn.Sequential(TinyBlock(16, 32, stride=2))
        self.layer3 = nn.Sequential(TinyBlock(32, 64, stride=2))
        for module, chans, reduction in (("act1", 16, 1), ("layer1", 16, 1), ("layer2", 32, 2), ("layer3", 64, 4)):
            self.note_stage(module, chans, reduction)
        self.num_features = 64
        self.reset_classifier(num_classes)
        he_initialize(self, "fan_out")

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        features: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return features
