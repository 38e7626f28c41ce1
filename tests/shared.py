"""What lies beside the project: real runs, kitchens and data, without which their tests are skipped."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
