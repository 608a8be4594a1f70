"""Learning rules, as modules that compute the network's training output and losses in their own way."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_targetprop.model import Layer


class Inverse(nn.Module):
    """g of a layer f: tanh of a transposed convolution, from what f gives to what it was given."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        forward = layer.linear
        self.linear = nn.ConvTranspose2d(
            forward.out_channels,
            forward.in_channels,
            layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            output_padding=layer.stride - 1,
        )
        self.act = nn.Tanh()
        nn.init.orthogonal_(self.linear.weight)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.act(self.linear(h))
        return out


class TargetPropagation(nn.Module):
    """Difference target propagation (Lee et al. 2014, section 2 and algorithm 1).

    No gradient crosses a layer: each learns from its own input to give its target. With h_l = f_l(h_{l-1}),
    the last hidden layer's target is a step ``step_size`` down the gradient of each image's loss, those below
    follow by h_{l-1} + g_l(target of l) - g_l(h_l), and ``inverses`` g_2, ... learn to give back their layer's
    input with Gaussian noise of deviation ``noise``. The first layer needs none.
    """

    def __init__(self, layers: Sequence[Layer], *, step_size: float, noise: float) -> None:
        super().__init__()
        self.step_size = step_size
        self.noise = noise
        self.inverses = nn.ModuleList(Inverse(layer) for layer in layers[1:])

    def forward(self, layers: Sequence[nn.Module], fc: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images B C H W to logits B num_classes, the head's input, what the layers give, and the inverses'
        losses.

        Each is computed from a copy of its input that passes no gradient on.
        """
        hidden: list[Tensor] = []
        losses: list[Tensor] = []
        for index, layer in enumerate(layers):
            x = x.detach()
            if index:
                noisy = x + self.noise * torch.randn_like(x)
                with torch.no_grad():
                    seen = layer(noisy)
                losses.append(_distance(self.inverses[index - 1](seen), noisy))
            x = layer(x)
            hidden.append(x)
        top = x.detach().requires_grad_()
        return fc(top.flatten(1)), top, *hidden, torch.stack(losses) if losses else top.new_zeros(1)

    def loss(self, output: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Returns the mean over images of the true loss, of each layer's distance from its target, and of the
        inverses'.
        """
        logits, top, *hidden, inverse_losses = output
        per_image = F.cross_entropy(logits, labels, reduction="none")
        (gradient,) = torch.autograd.grad(per_image.sum(), top, retain_graph=True)
        targets = self.targets([h.detach() for h in hidden], gradient)
        distances = [_distance(h, target) for h, target in zip(hidden, targets, strict=True)]
        return per_image.mean() + torch.stack(distances).sum() + inverse_losses.sum()

    @torch.no_grad()
    def targets(self, hidden: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
        """Returns the targets of what the layers give, the first's first; ``gradient`` is that of each image's loss by
        the last."""
        target = hidden[-1] - self.step_size * gradient
        layer_targets = [target]
        for below, here, inverse in zip(hidden[-2::-1], hidden[:0:-1], reversed(self.inverses), strict=True):
            target = below + inverse(target) - inverse(here)
            layer_targets.insert(0, target)
        return layer_targets


class FeedbackAlignment(nn.Module):
    """Backpropagation in which errors go back through ``feedback``, random weights that stay as they are.

    Lillicrap et al. 2016: the network learns weights for which these are a useful transpose.
    """

    def __init__(self, layers: Sequence[Layer], fc: nn.Module) -> None:
        super().__init__()
        weights = [*(layer.linear.weight for layer in layers[1:]), fc.get_parameter("weight")]
        for index, weight in enumerate(weights):
            random = torch.empty_like(weight, requires_grad=False)
            nn.init.orthogonal_(random)
            self.register_buffer(f"feedback{index}", random.detach())

    def forward(self, layers: Sequence[Layer], fc: nn.Module, x: Tensor) -> Tensor:
        """Maps images B C H W to logits B num_classes, as without it; gradients are not the same."""
        for index, layer in enumerate(layers):
            convolve = layer.linear._conv_forward  # of other weights than its own
            value = layer.linear(x.detach())
            if index:
                value = _with_gradient_of(value, convolve(x, self.get_buffer(f"feedback{index - 1}"), None))
            x = layer.act(value)
        x = x.flatten(1)
        error_path = F.linear(x, self.get_buffer(f"feedback{len(layers) - 1}"))
        return _with_gradient_of(fc(x.detach()), error_path)


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """Returns ``value``, which in addition passes gradients on to where ``other`` does."""
    return value + (other - other.detach())


def _distance(left: Tensor, right: Tensor) -> Tensor:
    """Returns the mean over images of the squared distance; no gradient goes to ``right``."""
    return (left - right.detach()).square().flatten(1).sum(dim=1).mean()
