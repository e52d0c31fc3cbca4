#!/usr/bin/env python3
"""Accuracy of recipes: quantizes each model by each recipe, evaluates the artifacts, prints a table.

    python3 bench/accuracy.py --tool build/dev/cli/marlin-pack --calibration calibration.txt --text docs-test.txt --text wikitext2-test.txt \\
        --model models/tiny-llama --model models/tiny-qwen2 'g32: --group-size 32' 'rounding: --method rtn'

Each recipe is NAME: OPTIONS of `marlin-pack quantize`. Per model and text: perplexity; then the mean loss, the mean over models and texts
of 100 * (perplexity / float perplexity - 1). With --divergence also the mean KL divergence from the float model's predictions, in
millinats (the float model runs again for each artifact).
"""

import argparse
import functools
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\n{result.stderr}")
    return result.stdout


@functools.cache
def evaluate(tool, model, text, *options):
    return json.loads(run(tool, "eval", model, "--text", text, "--json", "-", *options))


def measure(tool, model, texts, calibration, options, divergence):
    """Of one recipe on one model: per text, perplexity, loss in percent and KL divergence."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        data = [] if "rtn" in options else ["--calibration", calibration]
        run(tool, "quantize", model, "-o", out, *data, "--no-verify", *options)
        results = []
        for text in texts:
            result = evaluate(tool, out, text, *(["--against", model] if divergence else []))
            against = result["against"] if divergence else evaluate(tool, model, text)
            loss = 100 * (result["perplexity"] / against["perplexity"] - 1)
            results.append((result["perplexity"], loss, against.get("kl_mean")))
            print(f"{Path(model).name} {shlex.join(options)} {Path(text).name}: {results[-1]}", file=sys.stderr, flush=True)
        return results


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="marlin-pack")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", action="append", required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--divergence", action="store_true")
    parser.add_argument("recipe", nargs="+", help="NAME: OPTIONS")
    arguments = parser.parse_args()

    models = [Path(model) for model in arguments.model]
    heads = ["recipe", *(model.name for model in models), "mean loss %", *(["mean KL, 1e-3 nats"] if arguments.divergence else [])]
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|", flush=True)
    for recipe in arguments.recipe:
        name, _, options = recipe.partition(":")
        rows = [
            measure(arguments.tool, model, arguments.text, arguments.calibration, shlex.split(options), arguments.divergence)
            for model in models
        ]
        every = [result for row in rows for result in row]
        cells = [" / ".join(f"{perplexity:.3f}" for perplexity, _, _ in row) for row in rows]
        cells.append(f"{mean(loss for _, loss, _ in every):.3f}")
        if arguments.divergence:
            cells.append(f"{mean(1000 * divergence for _, _, divergence in every):.3f}")
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
