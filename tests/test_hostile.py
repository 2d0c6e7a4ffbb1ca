"""What a file, a model or a name in the data must not be able to do: see SECURITY.md."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = [path for folder in ("aekit", "kernels", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]
EVIL = "<script>alert(1)</script>"
