"""How much of other people's networks our spec can say: every classification network of torchvision, and timm's convolutional families.

Each network is built at random weights, with random statistics and scales, made a spec of by ``keepbest.torch.spec_of`` (which itself compares what it
builds of the spec with the network) and, with ``--engine``, written as a full model and answered for by our engine, whose log-probabilities must be
those of the network to 1e-4 of the largest. What a spec cannot say is named.

usage: bench/spec_of.py [--engine] [--only SUBSTRING] [--json FILE]      needs keepbest, torch, torchvision and timm
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import tempfile
import time
import warnings

import numpy
import timm
import torch
import torchvision

import keepbest
import keepbest.torch

# One network of each family, the smallest that has the family's layers.
FAMILIES = """
eca_resnext26ts gcresnext26ts gernet_s mobileone_s1 regnetz_b16 repvgg_a0 repvgg_d2se resnet32ts resnet51q resnext26ts seresnext26ts resnet50_clip_gap
bat_resnext26ts convmixer_768_32 convnext_atto convnext_atto_ols convnext_atto_rms convnext_tiny_hnf convnextv2_atto test_convnext3 cs3darknet_focus_s
cs3darknet_s cs3sedarknet_l cs3edgenet_x cspdarknet53 cspresnet50 cspresnext50 darknet17 darknetaa53 sedarknet21 cspnext_tiny densenet121 densenetblur121d
dla34 dla46_c dla60_res2net dpn48b dpn68 edgenext_xx_small efficientnet_b0 efficientnet_b0_gn efficientnet_b0_g16_evos efficientnet_blur_b0
efficientnet_cc_b0_4e efficientnet_es efficientnet_lite0 efficientnet_h_b5 efficientnetv2_rw_t efficientnet_x_b3 fbnetc_100 gc_efficientnetv2_rw_t mixnet_s
mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_035 mobilenetv2_110d semnasnet_050 spnasnet_100 test_efficientnet_ln tf_efficientnet_b0
tf_efficientnet_lite0 tf_efficientnetv2_b0 tf_mixnet_s tinynet_e fasternet_t0 fastvit_t8 focalnet_tiny_srf ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a
hgnet_tiny hgnetv2_b0 hrnet_w18_small inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small mambaout_femto convformer_s18
poolformer_s12 poolformerv2_s12 fbnetv3_b lcnet_035 mobilenetv3_rw mobilenetv3_small_050 mobilenetv4_conv_small_035
mobilenetv4_conv_blur_medium mobilenetv4_conv_aa_medium tf_mobilenetv3_small_075 tf_mobilenetv3_small_minimal_100 mobilenetv5_300m nasnetalarge dm_nfnet_f0
eca_nfnet_l0 nf_regnet_b0 nf_resnet26 nf_seresnet26 nf_ecaresnet26 nfnet_l0 pnasnet5large rdnet_tiny regnetv_040 regnetx_002 regnety_002 regnety_040_sgn
regnetz_005 repghostnet_050 repvit_m1 res2net50_14w_8s res2net50d res2next50 resnest14d resnest26d ecaresnet26t ecaresnext26t_32x4d resnet10t resnet18 resnet18d
resnet26t resnet50_gn resnet50s resnetaa34d resnetblur18 resnetrs50 resnext50_32x4d seresnet18 seresnext26d_32x4d wide_resnet50_2 resnetv2_18 resnetv2_50d_gn
resnetv2_50d_frn resnetv2_50x1_bit resnetv2_50d_evos rexnet_100 rexnetr_100 selecsls42b legacy_senet154 legacy_seresnet18 legacy_seresnext26_32x4d
skresnet18 skresnext50_32x4d starnet_s050 tresnet_m tresnet_v2_l vgg11 vgg11_bn vovnet39a eca_vovnet39b ese_vovnet19b_slim_dw ese_vovnet39b_evos
legacy_xception xception41 xception41p efficientvit_b0 shvit_s1 csatv2 cpubone_nano lowformer_b0 visformer_tiny mobilevit_xxs
""".split()

# Those that do not take small images.
SIZES = {"inception_v3": 128, "inception_v4": 128, "inception_resnet_v2": 128, "nasnetalarge": 96, "pnasnet5large": 96, "googlenet": 96}
SIZES |= {name: 224 for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "maxvit_t", "visformer_tiny")}
SIZES |= {name: 256 for name in ("csatv2", "bat_resnext26ts")}
SIZE = 64
TOLERANCE = 1e-4


def networks() -> dict[str, object]:
    """By name, what builds each."""
    found: dict[str, object] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        found[f"torchvision/{name}"] = lambda name=name, options=options: torchvision.models.get_model(name, weights=None, num_classes=10, **options)
    for name in FAMILIES:
        found[f"timm/{name}"] = lambda name=name: timm.create_model(name, num_classes=10)
    return found


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """The network with random statistics and scales, so that none is without effect."""
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var") or (tensor.dim() <= 1 and tensor.is_floating_point() and "bias" not in name):
                tensor.uniform_(0.7, 1.1)
            elif tensor.dim() == 1 and tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return network.eval()


def tamed(network: torch.nn.Module, images: torch.Tensor) -> None:
    """Brings what the network gives to a few units, so that the probability of no class is lost in rounding."""
    with torch.no_grad():
        largest = float(network(images).abs().max())
        last = [each for each in network.modules() if isinstance(each, torch.nn.Linear | torch.nn.Conv2d)][-1]
        for tensor in last.parameters():
            tensor.mul_(3.0 / max(largest, 1e-12))


def by_our_engine(network: torch.nn.Module, spec: dict, size: int) -> float:
    """The greatest difference of log-probabilities between our engine and PyTorch, as a part of the largest."""
    channels = spec["input"]["channels"]
    preprocessing = {"input": spec["input"], "resize": "none", "channels": "none", "divide_by": 255.0}
    preprocessing |= {"mean": [0.45] * channels, "std": [0.25] * channels}
    images = numpy.random.default_rng(0).integers(0, 256, (2, size, size, channels), dtype=numpy.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        keepbest.save(path, network, spec=spec, preprocessing=preprocessing)
        found = keepbest.load(path).predict(images).probabilities.astype("float64")
    with torch.no_grad():
        expected = network(keepbest.torch.Transform(preprocessing).batch(images)).double().log_softmax(1).numpy()
    # Probabilities are rounded to f32, which has none below this.
    there = expected > -80
    return float(numpy.abs(numpy.log(found[there]) - expected[there]).max() / numpy.abs(expected[there]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="store_true", help="run our engine, too")
    parser.add_argument("--only", default="", help="networks whose names hold this")
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    for name, build in networks().items():
        if arguments.only not in name:
            continue
        start, result = time.monotonic(), {}
        torch.manual_seed(0)
        size = SIZES.get(name.split("/")[1], SIZE)
        try:
            network, images = shaken(build()), torch.randn(2, 3, size, size)
            tamed(network, images)
            spec = keepbest.torch.spec_of(network, images)
            result = {"converted": True, "version": spec["version"], "layers": json.dumps(spec["layers"]).count('"op"')}
            result["graphs"] = json.dumps(spec["layers"]).count('"op": "graph"')
            if arguments.engine:
                result["difference"] = by_our_engine(network, spec, size)
                result["engine"] = result["difference"] <= TOLERANCE
        except keepbest.torch.CannotDescribe as error:
            result = {"converted": False, "missing": [[item.path, item.kind, item.why] for item in error.layers]}
        except Exception as error:  # what goes wrong with one network is told, and the next one is tried
            result = {**result, "failed": f"{type(error).__name__}: {error}"}
        results[name] = result
        told = result.get("failed") or "; ".join(f"{kind}: {why}" for kind, why in {(k, w): 0 for _, k, w in result.get("missing", [])})
        print(f"{name:45} {time.monotonic() - start:5.1f} s  {told[:300] or result}", flush=True)
    print()
    for source in ("torchvision", "timm"):
        of = {name: result for name, result in results.items() if name.startswith(source)}
        if not of:
            continue
        said = sum(bool(result.get("converted")) for result in of.values())
        run = sum(bool(result.get("engine")) for result in of.values())
        failed = [name for name, result in of.items() if "failed" in result]
        print(f"{source}: {said} of {len(of)} converted and equal to 1e-4" + (f", {run} in our engine, too" if arguments.engine else ""))
        if failed:
            print(f"  failed: {' '.join(failed)}")
        kinds = collections.Counter(kind for result in of.values() for kind in {item[1] for item in result.get("missing", [])})
        print(f"  missing, by networks: {', '.join(f'{kind} {count}' for kind, count in kinds.most_common())}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
