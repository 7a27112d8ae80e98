"""Name the classes of many images: ``python tuning/predict.py --model … features.npy out.csv``.

The model is one that a final training registered, or a folder or file of such a model. The
file may be larger than memory. No code that comes with a model is run. With --images instead of a
file, features are first extracted from the images, as they were for the model's data set.
"""

from __future__ import annotations

from argparse import Namespace

from tuning.cli.command_line import Parser
from tuning.cli.options import absolute_path, add_shared, finite, positive_int
from tuning.spec.choices import PREDICTION_MODES

PARSER = Parser(__doc__)
what = PARSER.add_mutually_exclusive_group(required=True)
what.add_argument("features", nargs="?", type=absolute_path, help=".mat, .npy or .parquet")
what.add_argument(
    "--images",
    type=absolute_path,
    metavar="FOLDER",
    help="folder of images, or a file that lists them; the model must record how its features were "
    "extracted",
)
images = PARSER.add_argument_group("with --images")
images.add_argument("--weights", type=absolute_path, help="file of the network's weights")
images.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
images.add_argument(
    "--batch", type=positive_int, default=32, help="images per batch (default: %(default)s)"
)
images.add_argument(
    "--skip-broken", action="store_true", help="skip files that are not complete images"
)
PARSER.add_argument("output", type=absolute_path, help=".csv, .parquet or .jsonl")
PARSER.add_argument(
    "--model",
    required=True,
    help="models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, a folder or file",
)
add_shared(PARSER, "--tracking-uri")
PARSER.add_argument(
    "--key",
    default="features",
    help="variable of a .mat file, or column of lists of a .parquet file (default: features)",
)
PARSER.add_argument(
    "--mode",
    choices=PREDICTION_MODES,
    default="gzsl",
    help="classify among all classes (gzsl) or only the unseen ones (zsl)",
)
PARSER.add_argument("--top-k", type=positive_int, default=1, help="classes to list for each image")
PARSER.add_argument(
    "--add-classes",
    type=absolute_path,
    metavar="FILE",
    help=".json or .csv with names and attributes of classes that the model does not know",
)
PARSER.add_argument(
    "--calibration",
    type=finite,
    help="subtract this from seen classes' scores (default: the model's own)",
)


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.classify_file import classify_file

    return classify_file(options)


if __name__ == "__main__":
    main()
