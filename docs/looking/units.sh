#!/bin/sh
# Draws the figures of docs/looking.md on units and attribution again: sh docs/looking/units.sh, with CIFAR-10 in ZOO_DATA.
set -e
cd "$(dirname "$0")"

zoo look deconv alexnet_small.c10 --layer features.4 --limit 5000 \
    --channel 37 --channel 53 --channel 61 --channel 78 -o deconv_alexnet_small_features4.png
zoo look deconv googlenet_small.c10 --layer inception4e --limit 5000 --units 4 -o deconv_googlenet_small_4e.png
zoo look patches airbench94.c10 --layer group2 --limit 5000 --units 6 -o patches_airbench94_group2.png
zoo look maximize resnet20.c10 --steps 96 --tv 0.003 --restarts 2 --channel 0 --channel 1 --channel 4 --channel 5 \
    --channel 7 --channel 8 -o maximize_resnet20_logits.png
zoo look maximize alexnet_small.c10 --layer features.7 --steps 96 --tv 0.0005 --channel 0 --channel 1 --channel 2 \
    --channel 3 --channel 4 --channel 5 --channel 6 --channel 7 -o maximize_alexnet_small_features7.png
for method in grad_cam occlusion gradient guided_backprop; do
    zoo look attribute resnet20.c10 --index 4 --method $method -o attribute_resnet20_$method.png
done
