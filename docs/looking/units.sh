#!/bin/sh
# Draws the figures of docs/looking.md on units and attribution again: sh docs/looking/units.sh, with CIFAR-10 in ZOO_DATA.
set -e
cd "$(dirname "$0")"

zoo look deconv alexnet_small.c10 --layer features.4 --split train --limit 5000 \
    --channel 8 --channel 16 --channel 104 --channel 112 -o deconv_alexnet_small_features4.png
zoo look patches airbench94.c10 --layer group2 --split train --limit 5000 --units 6 -o patches_airbench94_group2.png
for method in grad_cam occlusion gradient guided_backprop; do
    zoo look attribute resnet20.c10 --split train --index 4 --method $method -o attribute_resnet20_$method.png
done
zoo look maximize resnet20.c10 --channel 0 --channel 1 --channel 4 --channel 7 --channel 8 --channel 9 \
    -o maximize_resnet20_logits.png
zoo look maximize alexnet_small.c10 --layer features.4 --unit 7 7 --channel 8 --channel 16 --channel 104 --channel 112 \
    -o maximize_alexnet_small_features4.png
