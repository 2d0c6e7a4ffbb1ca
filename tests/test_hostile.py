"""What a file, a model or a name in the data must not be able to do: see SECURITY.md."""

import ast
import dataclasses
import json
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings
from format_files import fault, read_all
from good_files import X, write_models
from PIL import Image
from program import QUICK, aekit, result, waves

from aekit import checkpoint, datasets
from aekit.datasets import DATASETS
from aekit.errors import AekitError
from aekit.formats import open_record
from aekit.formats.images import PASSES

ROOT = Path(__file__).parent.parent
CODE = [path for folder in ("aekit", "kernels", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]
EVIL = "<script>alert(1)</script>"
