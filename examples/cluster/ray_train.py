"""Train a recipe on the machines of a Ray cluster, as `torchrun ... -m lxmert train` does.

    python ray_train.py custom -o runs/own --workers 4 --gpus \
        --set data.train=train.jsonl --set data.images=images

All machines must see the files at the same paths. The folder OUTPUT.ray has the records of Ray. To
resume after an interruption, rerun the command, with any number of workers.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train(given: dict[str, Any]) -> None:
    """Train as one of the workers, which Ray has connected."""
    os.chdir(given["folder"])
    from lxmert.workflows.training import read_with_options, train_recipe

    recipe = read_with_options(Path(given["recipe"]), given["set"], {})
    train_recipe(recipe, Path(given["output"]), cpu=not given["gpus"])


def main() -> None:
    """Start the workers and wait for them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="TOML file, or a name listed by `lxmert recipes`")
    parser.add_argument("-o", "--output", required=True, help="folder of the run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", action="store_true", help="a GPU for each worker")
    parser.add_argument("--address", help="HOST:PORT of the cluster; default: this machine")
    given = vars(parser.parse_args())
    address, workers = given.pop("address"), given.pop("workers")
    ray.init(address=address)
    trainer = TorchTrainer(
        train,
        train_loop_config={**given, "folder": str(Path.cwd())},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=given["gpus"]),
        run_config=RunConfig(storage_path=str(Path(f"{given['output']}.ray").absolute())),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
