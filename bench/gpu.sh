#!/usr/bin/env bash
# Tries keepbest on a GPU, in about ten minutes: is it right (against the CPU engine), is it fast (against a plain loop of PyTorch's), what does saving
# cost; then a run, its verification on the CPU and its reproduction. Prints what it finds; send it with the issue that it answers.
#
# usage: bench/gpu.sh [DEVICE]        cuda by default; mps, xpu, cuda:1 ...
#
# Needs a Python with PyTorch for the GPU and the package: pip install "keepbest[torch]".  PYTHON=... says which.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

device=${1:-cuda}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
measure() { "$python" bench/torch_engine.py --device "$device" "$@"; }

measure --what agree --networks lenet5,simple-cnn,resnet18-cifar,mobilenet_v3_small,efficientnet_b0,convnext_tiny --steps 50 --batch 8
measure --what speed,save --networks resnet18-imagenet,resnet50-imagenet,efficientnet_b0,convnext_tiny --size 224 --batch 64 --rounds 10
measure --what speed --networks resnet18-imagenet,resnet50-imagenet,efficientnet_b0,convnext_tiny --size 224 --batch 128 --precision bf16 --rounds 10
measure --what speed --networks resnet50-imagenet --size 224 --batch 128 --precision f16 --rounds 10
measure --what speed --networks resnet50-imagenet --size 224 --batch 128 --precision bf16 --compile --rounds 10

echo
cd "$work"
"$python" -m keepbest train --device "$device" --name gpu --quiet
"$python" -m keepbest verify gpu --test
"$python" -m keepbest reproduce gpu --quiet
"$python" -m keepbest show gpu
