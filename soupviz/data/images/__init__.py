"""Pictures: found, decoded, transformed, and kept as pixels; masks beside them."""
